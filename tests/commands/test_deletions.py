"""`python -m handler deletions`, on the embedded store."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from handler.commands import deletions, main
from handler.commands.console import newest_of_portals
from handler.commands.portal_option import find_portals
from handler.deadline import Deadline
from handler.stores.interface import Document
from handler.stores.sqlite import LocalStore
from tests.commands.shell import MOMENT, Shell
from tests.doubles.function import ROOT, environment


class WatchedStore(LocalStore):
    """Tells which deadlines it was given, and how many documents it was asked for."""

    def newest(
        self,
        collection: str,
        stamp: str,
        deadline: Deadline,
        **options: Any,  # noqa: ANN401
    ) -> Sequence[Document]:
        self.deadlines.append(deadline)
        self.limits.append(options["limit"])
        return super().newest(collection, stamp, deadline, **options)

    def names(self, collection: str, deadline: Deadline, *, limit: int) -> Sequence[str]:
        self.deadlines = [deadline]
        self.limits: list[int] = []
        return super().names(collection, deadline, limit=limit)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Heed interrupts; whatever runs the tests in the background lets them be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestDeletions:
    def keep(self, shell: Shell, member_id: str, *seconds: int, **fields: object) -> None:
        """Keep deletions, each recorded so many seconds after `MOMENT`, and named after that."""
        for second in seconds:
            shell.write(
                f"portals/{member_id}/deletions/{second}",
                origin="portal",
                connector="livechat",
                line_id=128,
                chat_id="c",
                message_id=str(second),
                recorded_at=MOMENT + timedelta(seconds=second),
                **fields,
            )

    def follow(
        self,
        monkeypatch: pytest.MonkeyPatch,
        file: Path,
        flags: list[str],
        *meanwhile: Callable[[], None],
    ) -> list[str]:
        """Follow until somebody interrupts; return all that had come by each of the waits.

        Instead of a wait, the next of the things happens that happen meanwhile.
        """
        come = []
        things = iter(meanwhile)

        def wait(_seconds: float) -> None:
            come.append(file.read_text())
            thing = next(things, None)
            if not thing:
                raise KeyboardInterrupt
            thing()

        with file.open("w") as out:
            monkeypatch.setattr("sys.stdout", out)
            monkeypatch.setattr("time.sleep", wait)
            assert 0 == main(["deletions", "--follow", *flags])
        return come

    def test_people_get_a_table(self, shell: Shell) -> None:
        """The newest first; with a portal's domain, where it is known."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, user_id=27)
        self.keep(shell, "M", 59, domain="x.bitrix24.com")
        table = (
            "RECORDED (UTC)       PORTAL          BY      CONNECTOR  LINE  CHAT  MESSAGE  USER\n"
            "2026-03-17 12:00:59  x.bitrix24.com  portal  livechat   128   c     59       -\n"
            "2026-03-17 12:00:01  M               portal  livechat   128   c     1        27\n"
        )

        assert (0, table, "") == shell("deletions")

    def test_the_newest_of_all_portals_come_first(self, shell: Shell) -> None:
        """As JSON lines, with all the fields of the document and its id."""
        for member_id in ("M", "N"):
            shell("portals", "add", "--member-id", member_id, "--token", "T")
        for member_id, message_id in (("M", "1"), ("N", "2"), ("M", "3")):
            shell.record(member_id, message_id)

        records = shell.json("deletions")

        assert ["3", "2", "1"] == [record["message_id"] for record in records]
        stored = shell.fields(f"portals/M/deletions/{records[0]['id']}")
        assert stored is not None
        assert records[0] == {
            "id": records[0]["id"],
            **stored,
            "event_at": stored["event_at"].isoformat(),  # type: ignore[union-attr]
            "recorded_at": stored["recorded_at"].isoformat(),  # type: ignore[union-attr]
        }
        assert ["3", "2"] == [one["message_id"] for one in shell.json("deletions", "--limit", "2")]
        assert ["2"] == [one["message_id"] for one in shell.json("deletions", "--portal", "N")]

    def test_each_portal_has_limits_of_its_own(self, shell: Shell) -> None:
        """However many there are, none comes too late, and no more is read than may be shown."""
        for member_id in ("M", "N"):
            shell.write(f"portals/{member_id}", active=True)
        store = WatchedStore(str(shell.path))

        assert [] == newest_of_portals(
            store, find_portals(store, None), "deletions", "recorded_at", limit=7
        )
        assert 3 == len(set(store.deadlines))
        assert [7, 7] == store.limits

    def test_since_leaves_out_what_is_older(self, shell: Shell) -> None:
        """So long ago, or a moment, which itself is included."""
        shell.write("portals/M", active=True)
        shell.record("M", "now")
        self.keep(shell, "M", 1, 2, 3)

        for since, message_ids in (("1h", ["now"]), ("2026-03-17T12:00:02", ["now", "3", "2"])):
            records = shell.json("deletions", "--since", since)
            assert message_ids == [record["message_id"] for record in records]

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
            ("2026-11-22T10:00", datetime(2026, 11, 22, 10, tzinfo=UTC)),
            ("2026-11-22T10:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
            ("2026-11-22T10:00+02:00", datetime(2026, 11, 22, 8, tzinfo=UTC)),
        ],
    )
    def test_a_moment_is_utc_unless_it_says_otherwise(self, text: str, moment: datetime) -> None:
        """As the table and Firestore show it."""
        assert moment == deletions.when(text)

    def test_so_long_ago_is_counted_from_now(self) -> None:
        """In seconds, minutes, hours or days."""
        for text, ago in (
            ("30s", timedelta(seconds=30)),
            ("5m", timedelta(minutes=5)),
            ("2h", timedelta(hours=2)),
            ("7d", timedelta(days=7)),
        ):
            before = datetime.now(UTC)
            moment = deletions.when(text)
            assert before - ago <= moment <= datetime.now(UTC) - ago

    @pytest.mark.parametrize("text", ["yesterday", "5y", "", "9999999d", "999999d", "2026-13-01"])
    def test_a_moment_that_is_none_is_refused(self, shell: Shell, text: str) -> None:
        """With the usage, not with a traceback."""
        told = (
            "python -m handler deletions: error: argument --since:"
            " give so long ago (30m, 12h, 7d), or a date or time (2026-11-22T10:00Z)"
        )

        assert told == shell.usage_error("deletions", "--since", text)

    @pytest.mark.parametrize("count", ["0", "-1", "many", "2147483648", "9" * 5_000])
    def test_a_limit_is_a_whole_number(self, shell: Shell, count: str) -> None:
        """From one on, and not beyond what Firestore takes."""
        told = (
            "python -m handler deletions: error: argument --limit:"
            " give a whole number from 1 to 2147483647"
        )

        assert told == shell.usage_error("deletions", "--limit", count)

    @pytest.mark.parametrize(
        ("flags", "shown"), [([], 20), (["--limit", "1"], 1), (["--limit", "2147483647"], 22)]
    )
    def test_no_more_are_shown_than_fit_a_screen(
        self, shell: Shell, flags: list[str], shown: int
    ) -> None:
        """Unless told otherwise."""
        shell.record("M", *map(str, range(22)))

        assert shown == len(shell.json("deletions", "--portal", "M", *flags))

    def test_nothing_in_a_record_can_command_the_terminal(self, shell: Shell) -> None:
        """External ids are whatever a customer's messenger made of them."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        shell.record("M", "\x1b[2J\x1b[1;1H\nC:\\fake line")

        code, out, _ = shell("deletions")

        _, row = out.splitlines()
        assert 0 == code
        assert row.endswith(r"  \x1b[2J\x1b[1;1H\nC:\fake line  -")

    @pytest.mark.parametrize(
        ("flags", "line"),
        [
            ([], "2026-03-17 12:00:0{0}  M  portal  livechat  128  c  {0}  -\n"),
            (
                ["--json"],
                (
                    '{{"id": "{0}", "origin": "portal", "connector": "livechat", "line_id": 128,'
                    ' "chat_id": "c", "message_id": "{0}",'
                    ' "recorded_at": "2026-03-17T12:00:0{0}+00:00"}}\n'
                ),
            ),
        ],
    )
    def test_follow_shows_each_new_record_once(
        self,
        shell: Shell,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        flags: list[str],
        line: str,
    ) -> None:
        """Oldest first and at once, also through a pipe; the limit is for what was there before."""
        self.keep(shell, "M", 1, 2, 3)

        def delete_more() -> None:
            self.keep(shell, "M", 4, 5)
            self.keep(shell, "N", 6)

        flags = [*flags, "--portal", "M", "--limit", "2"]
        come = self.follow(monkeypatch, tmp_path / "out", flags, delete_more, lambda: None)

        before, after = ("".join(map(line.format, these)) for these in ((2, 3), (2, 3, 4, 5)))
        assert [before, after, after] == come

    def test_follow_waits_for_the_first_record(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Whatever this machine's clock says, since the store's own time counts."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1)
        flags = ["--since", "2026-03-17T12:00:02Z"]

        come = self.follow(
            monkeypatch, tmp_path / "out", flags, lambda: self.keep(shell, "M", 3, domain="d")
        )

        assert ["", "2026-03-17 12:00:03  d  portal  livechat  128  c  3  -\n"] == come

    @pytest.mark.usefixtures("interruptible")
    def test_follow_ends_well_when_interrupted(self, shell: Shell) -> None:
        """As a process, with its real waits: that is the only way in which it ends."""
        shell.write("portals/M", active=True)
        with subprocess.Popen(
            [sys.executable, "-m", "handler", "deletions", "--follow"],
            cwd=ROOT,
            env=environment(STORE="local", LOCAL_STORE_PATH=str(shell.path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for second in (1, 2):
                self.keep(shell, "M", second)
                line = f"2026-03-17 12:00:0{second}  M  portal  livechat  128  c  {second}  -\n"
                assert line == process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=20)

        assert (0, ("", f"Store: {shell.path}\n")) == (process.returncode, rest)
