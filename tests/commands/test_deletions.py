"""`python -m handler deletions`, on the embedded store."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from handler.commands import main
from handler.console.portal_option import NO_PORTAL, find_portals
from handler.console.printing import newest_of_portals
from handler.deadline import Deadline
from handler.stores.interface import Document
from handler.stores.sqlite import LocalStore
from tests.commands.shell import MOMENT, Shell
from tests.doubles.function import ROOT, environment


class WatchedStore(LocalStore):
    """Records the deadlines and the number of documents requested."""

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
    """Restore SIGINT, which background test runners may ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupted(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Interrupt `--follow` after a few readings."""
    waits = iter(range(3))

    def wait(_seconds: float) -> None:
        if next(waits, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", wait)
    return shell


class TestDeletions:
    def keep(self, shell: Shell, member_id: str, *seconds: int, **fields: Any) -> None:  # noqa: ANN401
        """Store a deletion for each number of seconds after `MOMENT`, named after that number."""
        for second in seconds:
            record = {
                "origin": "portal",
                "connector": "livechat",
                "line_id": 128,
                "chat_id": "c",
                "message_id": str(second),
                "event_at": MOMENT + timedelta(seconds=second),
                "recorded_at": MOMENT + timedelta(seconds=second),
            }
            shell.write(f"portals/{member_id}/deletions/{second}", **record | fields)

    def follow(
        self,
        monkeypatch: pytest.MonkeyPatch,
        file: Path,
        flags: list[str],
        *meanwhile: Callable[[], None],
    ) -> list[str]:
        """Follow until interrupted; return what had been printed at each of the waits.

        Each wait is replaced by the next of `meanwhile`.
        """
        come = []
        things = iter(meanwhile)

        def wait(seconds: float) -> None:
            assert 2 == seconds
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
        """Newest first, with the portal's domain if known."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, user_id=27)
        self.keep(shell, "M", 59, domain="x.bitrix24.com", im_chat_id=7)
        table = (
            "DELETED (UTC)        PORTAL          DELETED BY  USER"
            "  CONNECTOR  LINE  CHAT  MESSAGE\n"
            "2026-03-17 12:00:59  x.bitrix24.com  staff       -     livechat   128   c     59\n"
            "2026-03-17 12:00:01  M               staff       27    livechat   128   c     1\n"
        )

        assert (0, table, "") == shell("deletions")

    def test_a_long_table_comes_in_blocks(self, shell: Shell) -> None:
        """Each with its own column widths, so that not everything must be in memory."""
        shell.record("M", *map(str, range(1_000)), "m" * 20)

        _, out, _ = shell("deletions", "--portal", "M", "--all")

        first, second = out.split("\n\n")
        titles, *rows = first.splitlines()
        assert 1_000 == len(rows)
        assert titles == second.splitlines()[0]
        assert 2 == len(second.splitlines())

    def test_links_and_texts_have_columns_where_there_are_any(self, shell: Shell) -> None:
        """Links use the domain in the portal's document: an event may name another."""
        shell.write("portals/M", active=True, domain="x.bitrix24.com")
        self.keep(shell, "M", 1, domain="elsewhere.example", im_chat_id=7, text="y" * 60)
        self.keep(shell, "M", 2, origin="customer", user_id=5, text="x" * 61)

        _, out, _ = shell("deletions")

        titles, second, first = out.splitlines()
        assert titles.endswith(f"  MESSAGE  {'TEXT':60}  CHAT LINK")
        assert second.endswith(
            f"  customer    5     livechat   128   c     2        {59 * 'x'}…  -"
        )
        link = "https://x.bitrix24.com/online/?IM_DIALOG=chat7"
        assert first.endswith(f"  1        {60 * 'y'}  {link}")
        assert "  x.bitrix24.com  staff" in first

    def test_newest_of_all_portals_come_first(self, shell: Shell) -> None:
        """As JSON lines, with all fields of the document and its id."""
        for member_id in ("M", "N"):
            shell("portals", "add", "--member-id", member_id, "--token", "T")
        for member_id, message_id in (("M", "1"), ("N", "2"), ("M", "3")):
            shell.record(member_id, message_id)

        records = shell.records()

        assert ["3", "2", "1"] == [record["message_id"] for record in records]
        stored = shell.fields(f"portals/M/deletions/{records[0]['id']}")
        assert stored is not None
        assert records[0] == {
            "id": records[0]["id"],
            **stored,
            "event_at": stored["event_at"].isoformat(),  # type: ignore[union-attr]
            "recorded_at": stored["recorded_at"].isoformat(),  # type: ignore[union-attr]
        }
        assert ["3", "2"] == [one["message_id"] for one in shell.records("--limit", "2")]
        assert ["2"] == [one["message_id"] for one in shell.records("--portal", "N")]

    def test_each_portal_has_its_own_limits(self, shell: Shell) -> None:
        """With any number of portals, none is late, and no more is read than may be shown."""
        for member_id in ("M", "N"):
            shell.write(f"portals/{member_id}", active=True)
        store = WatchedStore(str(shell.path))

        assert [] == newest_of_portals(
            store, find_portals(store, None), "deletions", "recorded_at", limit=7
        )
        assert 3 == len(set(store.deadlines))
        assert [7, 7] == store.limits

    def test_since_and_until_mean_when_the_message_was_deleted(self, shell: Shell) -> None:
        """Not when it was recorded: the offline queue may be hours late."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, 2, 3)
        self.keep(shell, "M", 4, event_at=MOMENT - timedelta(days=1))

        for flags, message_ids in (
            (["--since", "2026-03-17T12:00:02"], "32"),
            (["--since", "2026-03-16", "--until", "2026-03-16"], "4"),
            (["--until", "2026-03-17T12:00:02Z"], "14"),
            (["--since", "2026-03-17T13:00:03", "--timezone", "Europe/Berlin"], "3"),
        ):
            records = shell.records(*flags)
            assert message_ids == "".join(record["message_id"] for record in records)

    @pytest.mark.parametrize("text", ["yesterday", "5y", "", "9999999d", "999999d", "2026-13-01"])
    def test_invalid_time_is_an_error(self, shell: Shell, text: str) -> None:
        """With the usage, not a traceback."""
        told = (
            "python -m handler deletions: error: argument --since:"
            " use a time ago (30m, 12h, 7d), or a date or time (2026-11-22T10:00Z)"
        )

        assert told == shell.usage_error("deletions", "--since", text)

    @pytest.mark.parametrize("count", ["0", "-1", "many", "٣", "2147483648", "9" * 5_000])
    def test_a_limit_is_a_whole_number(self, shell: Shell, count: str) -> None:
        """From 1 to Firestore's maximum."""
        told = (
            "python -m handler deletions: error: argument --limit:"
            " use a whole number from 1 to 2147483647"
        )

        assert told == shell.usage_error("deletions", "--limit", count)

    @pytest.mark.parametrize(
        ("flags", "shown", "told"),
        [
            ([], 20, "2 more records are not shown: use --limit N for more, or --all.\n"),
            (
                ["--limit", "21"],
                21,
                "1 more record is not shown: use --limit N for more, or --all.\n",
            ),
            (["--limit", "2147483647"], 22, ""),
            (["--all"], 22, ""),
        ],
    )
    def test_default_limit_is_a_screenful(
        self, shell: Shell, flags: list[str], shown: int, told: str
    ) -> None:
        """The rest is counted."""
        shell.record("M", *map(str, range(22)))

        code, out, err = shell("deletions", "--portal", "M", "--json", *flags)

        assert (0, shown, told) == (code, len(out.splitlines()), err)

    def test_limit_and_all_exclude_each_other(self, shell: Shell) -> None:
        """And so do output formats."""
        told = "python -m handler deletions: error: argument {}: not allowed with argument {}"

        limits = shell.usage_error("deletions", "--limit", "1", "--all")
        assert limits == told.format("--all", "--limit")
        assert shell.usage_error("deletions", "--json", "--csv") == told.format("--csv", "--json")

    def test_only_those_of_one_side_or_connector_are_shown(self, shell: Shell) -> None:
        """The connector's case does not matter, as in Bitrix24; the rest of its kind is counted."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, 2, 3, 4, connector="WhatsApp")
        self.keep(shell, "M", 5, 6, origin="customer")

        for flags, message_ids in (
            (["--connector", "whatsAPP"], "4321"),
            (["--by", "customer"], "65"),
            (["--by", "portal"], "4321"),
            (["--by", "staff", "--connector", "livechat"], ""),
        ):
            found = [record["message_id"] for record in shell.records(*flags)]
            assert message_ids == "".join(found)

        _, _, err = shell("deletions", "--json", "--by", "portal", "--limit", "1")
        assert err == "3 more records are not shown: use --limit N for more, or --all.\n"

    def test_spreadsheet_follows_the_standard(self, shell: Shell) -> None:
        """In UTF-8 on any terminal, with its own line ends."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, text="=1+1")

        code, out, err = shell("deletions", "--csv")

        titles, row, nothing = out.split("\r\n")
        assert (0, "", "") == (code, err, nothing)
        assert titles.startswith("\ufeffdeleted_at (UTC),deleted_by,user_id,")
        assert row.startswith("2026-03-17 12:00:01,staff,,,M,livechat,128,c,1,,'=1+1,")

    def test_a_spreadsheet_can_be_piped_in_any_locale(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even where Python would write ASCII, or other line ends; the mark names the encoding."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, text="Привет\ud800\n")
        pipe = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe, "ascii", newline="\r\n"))

        assert 0 == main(["deletions", "--csv"])

        sys.stdout.flush()
        written = pipe.getvalue()
        assert written.startswith(b"\xef\xbb\xbfdeleted_at (UTC),")
        assert ',"Привет\\ud800\n",'.encode() in written
        assert written.endswith(b",1\r\n")

    @pytest.mark.parametrize("flags", [["--csv"], ["--all"], ["--until", "2026-11-25"]])
    def test_follow_excludes_an_end(self, shell: Shell, flags: list[str]) -> None:
        """The end would never come."""
        told = "--follow has no end: leave out --until, --all and --csv.\n"

        assert (1, "", told) == shell("deletions", "--follow", *flags)

    def test_empty_result_is_explained(self, shell: Shell) -> None:
        """Also if there is nothing to find yet."""
        shell.write("portals/M", active=True)
        *_, nothing = shell("deletions")
        self.keep(shell, "M", 1)
        *_, before = shell("deletions", "--until", "2026-03-17T12:00Z", "--by", "portal")
        others = {shell("deletions", "--connector", name)[2] for name in ("other", "")}

        assert nothing == (
            "No records: nothing has been recorded yet. `status` shows whether events arrive.\n"
        )
        assert before == (
            "No records match --until 2026-03-17 12:00:00 UTC, --by: try other values.\n"
        )
        assert others == {"No records match --connector: try other values.\n"}

    def test_records_beyond_the_limit_are_counted_within_the_range(self, shell: Shell) -> None:
        """Not those before or after it."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, 2, 3, 4)
        since, until = "2026-03-17T12:00:02Z", "2026-03-17T12:00:04Z"

        *_, err = shell("deletions", "--limit", "1", "--since", since, "--until", until)

        assert err == "1 more record is not shown: use --limit N for more, or --all.\n"

    def test_quarantined_events_are_counted(self, shell: Shell) -> None:
        """If they were received since then: they may be deletions of that time."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1)
        for hours in (1, 2):
            received = MOMENT + timedelta(hours=hours)
            shell.write(f"portals/M/quarantine/{hours}", event="E", received_at=received)

        *_, both = shell("deletions")
        *_, one = shell("deletions", "--since", "2026-03-17T14:00Z", "--until", "2026-03-18")

        assert both == "2 events are in quarantine and not shown: see `quarantine`.\n"
        assert one.endswith("\n1 event is in quarantine and not shown: see `quarantine`.\n")

    def test_older_records_are_merged_in_by_when_they_were_recorded(self, shell: Shell) -> None:
        """Those without the time of the deletion."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, 3, 5)
        for second in (2, 4):
            shell.write(
                f"portals/M/deletions/{second}",
                message_id=str(second),
                recorded_at=MOMENT + timedelta(seconds=second),
            )
        told = (
            "For {} of these, the time of the deletion is unknown; the time shown is when they were"
            " recorded.\n"
        )

        _, out, err = shell("deletions", "--json")
        found = [json.loads(line)["message_id"] for line in out.splitlines()]
        assert (["5", "4", "3", "2", "1"], told.format(2)) == (found, err)

        _, out, err = shell(
            "deletions", "--json", "--limit", "2", "--until", "2026-03-17T12:00:05Z"
        )
        found = [json.loads(line)["message_id"] for line in out.splitlines()]
        rest = "2 more records are not shown: use --limit N for more, or --all.\n"
        assert (["4", "3"], rest + told.format(1)) == (found, err)

    def test_no_record_can_control_the_terminal(self, shell: Shell) -> None:
        """External ids are up to a customer's messenger."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        shell.record("M", "\x1b[2J\x1b[1;1H\nC:\\fake line")

        code, out, _ = shell("deletions")

        _, row = out.splitlines()
        assert 0 == code
        assert row.endswith(r"  \x1b[2J\x1b[1;1H\nC:\fake line")

    @pytest.mark.parametrize(
        ("flags", "line"),
        [
            ([], "2026-03-17 12:00:0{0}  M  staff  -  livechat  128  c  {0}\n"),
            (
                ["--json"],
                (
                    '{{"id": "{0}", "origin": "portal", "connector": "livechat", "line_id": 128,'
                    ' "chat_id": "c", "message_id": "{0}",'
                    ' "event_at": "2026-03-17T12:00:0{0}+00:00",'
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
        """Oldest first, immediately, even through a pipe; the limit is for existing records."""
        self.keep(shell, "M", 1, 2, 3)

        def delete_more() -> None:
            self.keep(shell, "M", 4, 5)
            self.keep(shell, "N", 6)

        flags = [*flags, "--portal", "M", "--limit", "2"]
        come = self.follow(monkeypatch, tmp_path / "out", flags, delete_more, lambda: None)

        before, after = ("".join(map(line.format, these)) for these in ((2, 3), (2, 3, 4, 5)))
        assert [before, after, after] == come

    def test_follow_shows_only_what_matches(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """By when it was recorded: an old deletion may arrive only now, and after many others."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", *range(-100, 2))
        by_customer = {"origin": "customer", "event_at": MOMENT - timedelta(days=1)}
        self.keep(shell, "M", 2, **by_customer)

        def delete_more() -> None:
            self.keep(shell, "M", 3)
            self.keep(shell, "M", 4, **by_customer)

        flags = ["--by", "customer", "--timezone", "Europe/Berlin"]
        come = self.follow(monkeypatch, tmp_path / "out", flags, delete_more)

        line = "2026-03-16 13:00:00  M  customer  -  livechat  128  c  {}\n"
        assert [line.format(2), line.format(2) + line.format(4)] == come

    @pytest.mark.parametrize(
        ("flags", "shown", "told"),
        [
            ("--limit 2", "45", "3 more records are not shown: use --limit N for more.\n"),
            ("--limit 4 --since 2026-03-17T12:00:02Z", "2345", ""),
            (
                "--limit 1 --by customer",
                "4",
                "1 more record is not shown: use --limit N for more.\n",
            ),
            (
                "--by customer --since 2026-03-17T12:00:06Z",
                "",
                "No records match --since 2026-03-17 12:00:06 UTC, --by: try other values.\n",
            ),
        ],
    )
    def test_follow_counts_what_it_does_not_show(
        self, interrupted: Shell, flags: str, shown: str, told: str
    ) -> None:
        """By when they were recorded: these are deletions of the day before."""
        shell, day_before = interrupted, MOMENT - timedelta(days=1)
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1, 3, 5, event_at=day_before)
        self.keep(shell, "M", 2, 4, event_at=day_before, origin="customer")
        shell.write("portals/M/quarantine/q", event="E", received_at=MOMENT + timedelta(hours=1))

        code, out, err = shell("deletions", "--follow", "--json", *flags.split())

        assert (0, list(shown)) == (
            code,
            [json.loads(line)["message_id"] for line in out.splitlines()],
        )
        assert f"{told}1 event is in quarantine and not shown: see `quarantine`.\n" == err

    def test_follow_counts_no_record_that_it_will_show(
        self, interrupted: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that arrives while it reads the existing ones is new."""
        shell = interrupted
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1)
        line = "2026-03-17 12:00:0{0}  M  staff  -  livechat  128  c  {0}\n"
        really_write = sys.stdout.write
        arrives = iter([2])

        def write(text: str) -> int:
            for number in arrives:
                self.keep(shell, "M", number)
            return really_write(text)

        monkeypatch.setattr("sys.stdout.write", write)

        told = line.format(1) + line.format(2)
        assert (0, told, "") == shell("deletions", "--follow")

    def test_follow_waits_for_the_first_record(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Regardless of this machine's clock, since the store's time counts."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1)
        flags = ["--since", "2026-03-17T12:00:02Z"]

        come = self.follow(
            monkeypatch,
            tmp_path / "out",
            flags,
            lambda: self.keep(shell, "M", 3, domain="d"),
            lambda: None,
        )

        line = "2026-03-17 12:00:03  d  staff  -  livechat  128  c  3\n"
        assert ["", line, line] == come

    def test_follow_waits_for_the_first_portal(
        self,
        shell: Shell,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The notice that there are none is printed once."""
        assert ["", ""] == self.follow(monkeypatch, tmp_path / "out", [], lambda: None)

        assert capsys.readouterr().err == f"Store: {shell.path}\n{NO_PORTAL}\n"

    @pytest.mark.usefixtures("interruptible")
    def test_follow_ends_well_when_interrupted(self, shell: Shell) -> None:
        """As a process, with real waits: this is the only way it ends."""
        shell.write("portals/M", active=True)
        self.keep(shell, "M", 1)
        with subprocess.Popen(
            [sys.executable, "-m", "handler", "deletions", "--follow"],
            cwd=ROOT,
            env=environment(STORE="local", LOCAL_STORE_PATH=str(shell.path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            line = "2026-03-17 12:00:0{0}  M  staff  -  livechat  128  c  {0}\n"
            assert line.format(1) == process.stdout.readline()
            self.keep(shell, "M", 2)
            assert line.format(2) == process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=20)

        assert (0, ("", f"Store: {shell.path}\n")) == (process.returncode, rest)
