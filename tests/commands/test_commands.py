"""The commands of `python -m handler`, on the embedded store."""

import errno
import io
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl

import pytest
from google.cloud.firestore_v1 import types

from handler.commands import deletions, main
from handler.commands.console import newest_of_portals, print_json
from handler.deadline import Deadline
from handler.log import Log
from handler.records.dead_letter import keep_event
from handler.records.documents import Delivery
from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.stores.interface import Document, Fields
from handler.stores.sqlite import LocalStore
from handler.tokens import token_digest
from tests import samples
from tests.doubles.function import FORM, ROOT, Function, environment, free_port

MEMBER_ID = "a223c6b3710f85df22e9377d6c4f7553"
MOMENT = datetime(2026, 3, 17, 12, tzinfo=UTC)


class Shell:
    """Runs commands here, and knows the store that they use."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.store = LocalStore(str(path))
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code, what it printed, and what it complained about."""
        try:
            code = main(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def json(self, *arguments: str) -> list[Any]:
        """Run a command that prints JSON lines."""
        code, out, err = self(*arguments, "--json")
        assert (0, "") == (code, err)
        return [json.loads(line) for line in out.splitlines()]

    def usage_error(self, *arguments: str) -> str:
        """Run a command that makes no sense; return what is said of it after the usage."""
        code, out, err = self(*arguments)
        assert (2, "") == (code, out)
        return err.splitlines()[-1]

    def record(self, member_id: str, *message_ids: str) -> None:
        """Record deletions, as the function would."""
        im = {"chat_id": 1, "message_id": 2}
        data = {
            "CONNECTOR": "livechat",
            "LINE": 128,
            "DATA": [
                {"im": im, "message": {"id": message_id}, "chat": {"id": "c"}}
                for message_id in message_ids
            ],
        }
        delivery = Delivery(member_id=member_id, event="ONOPENLINEMESSAGEDELETE", via="online")
        recorder = Recorder(lambda: self.store, Settings(), lambda: datetime.now(UTC))
        recorder.record(recorder.documents(delivery, data), Deadline(5))

    def write(self, path: str, **fields: Any) -> None:  # noqa: ANN401
        """Write a document."""
        document: Fields = fields
        assert self.store.put(Document(path, document), Deadline(5))

    def fields(self, path: str) -> Fields | None:
        """Read a document."""
        document = self.store.get(path, Deadline(5))
        return document.fields if document else None


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Point the commands to an empty embedded store."""
    path = tmp_path / "store.sqlite3"
    monkeypatch.setenv("STORE", "local")
    monkeypatch.setenv("LOCAL_STORE_PATH", str(path))
    return Shell(path, capsys)


HELP: dict[str, list[str]] = {}
"""What each command line says of itself, word by word."""

for part in (ROOT / "tests/samples/help.txt").read_text().split("$ python -m handler")[1:]:
    line, _, text = part.partition("\n")
    HELP[line.strip()] = text.split()


@pytest.mark.parametrize("line", HELP)
def test_every_command_explains_itself(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Each has --help, and asking for help is a success."""
    monkeypatch.setenv("COLUMNS", "1000")  # breaks no word

    code, out, err = shell(*line.split())

    assert (0, HELP[line], "") == (code, out.split(), err)


@pytest.mark.parametrize(
    ("line", "absent"), [([], "COMMAND"), (["portals"], "ACTION"), (["subscription"], "ACTION")]
)
def test_a_command_line_that_ends_too_early_is_told(
    shell: Shell, line: list[str], absent: str
) -> None:
    """In the way of all usage errors."""
    program = " ".join(["python -m handler", *line])

    told = f"{program}: error: the following arguments are required: {absent}"
    assert told == shell.usage_error(*line)


@pytest.mark.parametrize(
    ("line", "argument"),
    [
        (["deletions", "--portal"], "--portal"),
        (["quarantine", "--portal"], "--portal"),
        (["portals", "add", "--token", "T", "--member-id"], "--member-id"),
        (["portals", "remove"], "M"),
        (["portals", "purge", "--yes"], "M"),
    ],
)
def test_a_portal_is_a_member_id(shell: Shell, line: list[str], argument: str) -> None:
    """What cannot be one is told in plain words."""
    told = shell.usage_error(*line, "a/b")

    assert told.endswith(f"error: argument {argument}: 'a/b' cannot be a portal's member_id")


def test_the_module_runs_as_a_program() -> None:
    """`python -m handler` is what the README tells people to type."""
    done = subprocess.run(
        [sys.executable, "-m", "handler", "portals", "list", "--json"],
        cwd=ROOT,
        env=environment(STORE="local", LOCAL_STORE_PATH="/proc/no/such/place"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (1, "") == (done.returncode, done.stdout)
    assert "LOCAL_STORE_PATH=/proc/no/such/place" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_exit_code_is_the_commands(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is 0 only on success."""
    assert (0, "") == shell("portals", "list", "--json")[::2]
    monkeypatch.setattr("sys.argv", ["handler", "portals", "remove", "nobody"])

    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("handler", run_name="__main__")

    assert 1 == exit_.value.code


def test_a_python_without_the_dependencies_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first thing that a newcomer forgets is to enter the environment."""
    monkeypatch.setitem(sys.modules, "handler.commands", None)  # as if it could not be imported

    with pytest.raises(SystemExit, match=r"handler\.commands.*`\. \.venv/bin/activate`"):
        runpy.run_module("handler", run_name="__main__")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_reader_may_go_early(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    """As `head` does: no traceback follows what it has read, not even when the program ends."""
    shell.write("portals/M", active=True)
    shell.record("M", "one", "two")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert 1 == main(["deletions", *flags])


def test_an_interrupted_command_is_no_success(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 plus the number of the signal, as shells have it."""

    class Interrupted:
        def readline(self) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())

    assert 130 == shell("portals", "purge", "M")[0]


def test_json_shows_what_people_wrote_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """A map or a null in a portal's document is no `Value`, and stays Firestore's own."""
    fields: Any = {"active": True, "note": types.Value.pb()(null_value=0)}

    print_json(Document("portals/M", fields))

    shown = json.loads(capsys.readouterr().out)
    assert {"id": "M", "active": True, "note": "null_value: NULL_VALUE\n"} == shown


def test_a_setting_that_makes_no_sense_is_named(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands read the same settings as the function."""
    monkeypatch.setenv("RETENTION_DAYS", "soon")

    code, _, err = shell("portals", "list")

    assert 1 == code
    assert "RETENTION_DAYS='soon' makes no sense" in err


class TestPortals:
    def test_add_accepts_a_token_and_stores_its_digest_only(self, shell: Shell) -> None:
        """The token itself is stored nowhere."""
        code, out, _ = shell("portals", "add", "--member-id", "M", "--token", "T")

        assert (0, "Portal M is accepted.\n") == (code, out)
        fields = shell.fields("portals/M")
        assert fields is not None
        assert {
            "member_id": "M",
            "token_digests": [token_digest("T")],
            "active": True,
            "installed_at": fields["installed_at"],
            "updated_at": fields["installed_at"],
        } == fields

    def test_add_keeps_the_token_before(self, shell: Shell) -> None:
        """A second token comes first; the former stays, and the one before that goes."""
        for token in ("first", "second", "third"):
            shell("portals", "add", "--member-id", "M", "--token", token)

        (portal,) = shell.json("portals", "list")
        assert [token_digest("third"), token_digest("second")] == portal["token_digests"]

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_add_takes_domain_and_endpoint(self, shell: Shell, slash: str) -> None:
        """With an endpoint, the offline queue can be drained too."""
        endpoint = "https://x.bitrix24.com/rest"
        where = ("--domain", "x.bitrix24.com", "--endpoint", endpoint + slash)

        (portal,) = shell.json("portals", "add", "--member-id", "M", "--token", "T", *where)

        assert ("x.bitrix24.com", endpoint + "/") == (portal["domain"], portal["client_endpoint"])

    def test_add_reads_the_token_from_standard_input(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So that it need not stand in the shell's history."""
        monkeypatch.setattr("sys.stdin", io.StringIO("T\n"))

        assert 0 == shell("portals", "add", "--member-id", "M", "--token", "-")[0]
        (portal,) = shell.json("portals", "list")
        assert [token_digest("T")] == portal["token_digests"]

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (
                ["--token", ""],
                "The token is empty: copy auth[application_token] from the portal.",
            ),
            (
                ["--token", "T", "--endpoint", "http://x.com/"],
                "--endpoint: give https://…/rest/ (plain http to this machine only).",
            ),
        ],
    )
    def test_add_refuses_what_makes_no_sense(
        self, shell: Shell, arguments: list[str], complaint: str
    ) -> None:
        """Each complaint says what is wrong, and nothing is stored."""
        refused = shell("portals", "add", "--member-id", "M", *arguments)

        assert (1, "", f"{complaint}\n") == refused
        assert [] == shell.json("portals", "list")

    @pytest.mark.parametrize("absent", ["--member-id", "--token"])
    def test_add_needs_a_portal_and_its_token(self, shell: Shell, absent: str) -> None:
        """Which one is missing is told."""
        given = {"--member-id": "M", "--token": "T"}
        del given[absent]
        (present,) = given.items()

        told = shell.usage_error("portals", "add", *present)

        assert told.endswith(f"error: the following arguments are required: {absent}")

    def test_list_is_a_table_for_people(self, shell: Shell) -> None:
        """Also for documents that people wrote by hand."""
        shell.write(
            "portals/M",
            token_digests=["new", "old"],
            active=True,
            domain="x.bitrix24.com",
            updated_at=MOMENT,
        )
        shell.write("portals/by-hand", token_digests=["d"], active=False)
        table = (
            "MEMBER ID  DOMAIN          ACTIVE  TOKENS  UPDATED\n"
            "M          x.bitrix24.com  yes     2       2026-03-17 12:00:00\n"
            "by-hand    -               no      1       -\n"
        )

        assert (0, table, "") == shell("portals", "list")

    def test_list_leaves_no_portal_out(self, shell: Shell) -> None:
        """An application in the market has hundreds."""
        portals = [Document(f"portals/{number}", {"active": True}) for number in range(301)]
        shell.store.create(portals, "installed_at", Deadline(5))

        assert 301 == len(shell.json("portals", "list"))

    def test_remove_leaves_the_records(self, shell: Shell) -> None:
        """Nothing more is accepted; the records go with purge only."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        shell.record("M", "one")

        removed = (
            "Portal M is removed; functions that run accept it for at most TOKEN_CACHE_SECONDS"
            " longer. Its records stay until `portals purge`; to read them: deletions --portal M\n"
        )
        assert (0, removed, "") == shell("portals", "remove", "M")
        assert [] == shell.json("portals", "list")
        assert 1 == len(shell.json("deletions", "--portal", "M"))
        absent = "There is no portal M; see `portals list`.\n"
        assert (1, "", absent) == shell("portals", "remove", "M")

    @pytest.mark.parametrize("answer", ["y", "Yes"])
    def test_purge_deletes_all_that_is_kept_of_one_portal(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, answer: str
    ) -> None:
        """After asking: whoever answers anything else keeps everything."""
        for member_id in ("M", "other"):
            shell("portals", "add", "--member-id", member_id, "--token", "T")
            shell.record(member_id, "one", "two")
            shell.write(f"portals/{member_id}/quarantine/q", received_at=MOMENT)
        question = "Delete portal M and all its records? Type yes:\n"

        monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
        assert (1, question, "Nothing is deleted.\n") == shell("portals", "purge", "M")
        assert 2 == len(shell.json("deletions", "--portal", "M"))

        monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
        done = f"{question}Portal M is deleted, with 3 records.\n"
        assert (0, done, "") == shell("portals", "purge", "M")
        assert [] == shell.json("deletions", "--portal", "M")
        assert None is shell.fields("portals/M/quarantine/q")
        assert ["other"] == [portal["member_id"] for portal in shell.json("portals", "list")]
        assert 2 == len(shell.json("deletions"))

        assert 0 == shell("portals", "purge", "other", "--yes")[0]
        assert [] == shell.json("deletions", "--portal", "other")

    def test_purge_of_a_portal_that_is_not_there_is_a_failure(self, shell: Shell) -> None:
        """A mistyped member_id has deleted nothing; what `remove` left is found, though."""
        shell.record("M", "one")
        shell.write("portals/empty", active=True)

        for member_id, result in (
            ("typo", (1, "", "Nothing is kept of a portal typo; see `portals list`.\n")),
            ("M", (0, "Portal M is deleted, with 1 records.\n", "")),
            ("empty", (0, "Portal empty is deleted, with 0 records.\n", "")),
        ):
            assert result == shell("portals", "purge", member_id, "--yes")

    def test_purge_needs_an_answer(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Where nobody can answer, nothing is deleted; the question has been seen, though."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        screen = tmp_path / "screen"
        seen = []

        class Nobody:
            def readline(self) -> str:
                seen.append(screen.read_text())
                return ""

        monkeypatch.setattr("sys.stdin", Nobody())
        with screen.open("w") as out, monkeypatch.context() as redirected:
            redirected.setattr("sys.stdout", out)
            code, _, err = shell("portals", "purge", "M")

        assert (1, "Nothing is deleted.\n") == (code, err)
        assert ["Delete portal M and all its records? Type yes:\n"] == seen
        assert shell.fields("portals/M")


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

        assert [] == newest_of_portals(store, None, "deletions", "recorded_at", limit=7)
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

        assert (0, ("", "")) == (process.returncode, rest)


FITS = json.dumps(
    {
        "CONNECTOR": "livechat",
        "LINE": 1,
        "DATA": [
            {"im": {"chat_id": 1, "message_id": 2}, "message": {"id": "a"}, "chat": {"id": "b"}}
        ],
    }
)


class TestQuarantine:
    def keep(self, shell: Shell, name: str, payload: str, **fields: object) -> None:
        """Keep an event in quarantine."""
        shell.write(
            f"portals/M/quarantine/{name}",
            event="ONOPENLINEMESSAGEDELETE",
            reasons=["data.LINE: should be a whole number", "data.DATA: Field required"],
            payload=payload,
            received_at=MOMENT,
            **fields,
        )

    def test_lists_what_did_not_fit_and_why(self, shell: Shell) -> None:
        """A table for people, JSON lines for programs."""
        shell.write("portals/M", active=True)
        self.keep(shell, "p", "{}", domain="x.bitrix24.com")
        self.keep(shell, "q", "{}")
        reasons = "data.LINE: should be a whole number; data.DATA: Field required"
        row = f"2026-03-17 12:00:00  {{:14}}  ONOPENLINEMESSAGEDELETE  {reasons}  {{}}\n"
        table = (
            f"RECEIVED (UTC)       PORTAL          EVENT                    {'REASONS':62}  ID\n"
            + row.format("M", "q")
            + row.format("x.bitrix24.com", "p")
        )

        assert (0, table, "") == shell("quarantine")
        lines = shell.json("quarantine", "--portal", "M")
        assert [("q", "{}"), ("p", "{}")] == [(line["id"], line["payload"]) for line in lines]
        assert [] == shell.json("quarantine", "--portal", "N")

    def test_retry_records_what_fits_by_now_and_takes_it_out(self, shell: Shell) -> None:
        """What still does not fit stays, and the command says so."""
        shell.write("portals/M", active=True)
        self.keep(shell, "good", FITS, event_at=MOMENT, user_id=27, domain="d")
        self.keep(shell, "good-too", FITS.replace('"a"', '"other"'))
        self.keep(shell, "bad", '{"LINE": "x"}')
        self.keep(shell, "cut", '{"LINE": "x')

        code, out, err = shell("quarantine", "retry")

        cut, bad, result = out.splitlines()
        assert (1, "") == (code, err)
        assert cut.startswith("cut still does not fit: ")
        assert bad.startswith("bad still does not fit: data.CONNECTOR: Field required")
        assert "2 recorded, 0 known already, 2 left." == result
        assert ["bad", "cut"] == sorted(kept["id"] for kept in shell.json("quarantine"))
        records = {record["message_id"]: record for record in shell.json("deletions")}
        assert ["a", "other"] == sorted(records)
        assert ("replay", "ONOPENLINEMESSAGEDELETE", MOMENT.isoformat(), 27, "d") == tuple(
            records["a"][name] for name in ("via", "event", "event_at", "user_id", "domain")
        )
        assert records["other"]["event_at"] == MOMENT.isoformat()  # when it was received

    def test_programs_read_what_a_retry_has_done(self, shell: Shell) -> None:
        """And people read sentences."""
        shell.write("portals/M", active=True)
        self.keep(shell, "good", FITS)
        self.keep(shell, "cut", '{"LINE": "x')

        code, out, err = shell("quarantine", "retry", "--json")

        done = json.loads(out)
        (problem,) = done.pop("problems")
        assert {"recorded": 1, "duplicates": 0, "left": 1} == done
        assert problem.startswith("cut still does not fit")
        assert (1, "") == (code, err)

    def test_retry_succeeds_when_nothing_is_left(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is known already is a success, and what nobody wants any more too."""
        shell.write("portals/M", active=True)
        self.keep(shell, "good", FITS)
        assert 0 == shell("quarantine", "retry")[0]
        self.keep(shell, "good", FITS)
        assert (0, "0 recorded, 1 known already, 0 left.\n", "") == shell("quarantine", "retry")
        self.keep(shell, "unwanted", FITS)
        monkeypatch.setenv("CONNECTORS", "another")

        assert (0, "0 recorded, 0 known already, 0 left.\n", "") == shell("quarantine", "retry")
        assert [] == shell.json("quarantine")


class TestReplay:
    def test_what_is_no_text_is_no_problem(self, shell: Shell, tmp_path: Path) -> None:
        """A log holds the lines of others too."""
        saved = tmp_path / "saved.log"
        saved.write_bytes(b"\xff\n")
        done = "0 recorded, 0 known already, 0 quarantined, 0 skipped as forged, 0 problems.\n"

        assert (0, done, "") == shell("replay", str(saved))

    def test_what_is_recorded_late_expires_like_the_rest(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Counted from then on, by a retry of the quarantine as by a replay."""
        monkeypatch.setenv("RETENTION_DAYS", "30")
        delivery = Delivery(member_id="M", event="ONOPENLINEMESSAGEDELETE", via="online")
        saved = tmp_path / "saved.log"
        with saved.open("w") as log:
            keep_event(Log(log), delivery, json.loads(FITS))
        fields: Fields = {
            "event": "ONOPENLINEMESSAGEDELETE",
            "payload": FITS.replace('"a"', '"other"'),
            "received_at": MOMENT,
        }
        shell.write("portals/M", active=True)
        shell.write("portals/M/quarantine/q", **fields)
        before = datetime.now(UTC)

        assert (0, 0) == (shell("replay", str(saved))[0], shell("quarantine", "retry")[0])

        expiries = [record["expires_at"] for record in shell.json("deletions")]
        assert 2 == len(expiries)
        for expiry in map(datetime.fromisoformat, expiries):
            assert before <= expiry - timedelta(days=30) <= datetime.now(UTC)


class Request(NamedTuple):
    method: str
    path: str
    content_type: str | None
    body: bytes


class Receiver(HTTPServer):
    """Takes, in place of the function, whatever it is sent, for as long as a `with` block lasts."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Connection)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = {"GET": 200, "POST": 200}
        self.answer = b"{}"
        self.requests: list[Request] = []

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, args=[0.01]).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Connection(BaseHTTPRequestHandler):
    server: Receiver

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, self.headers["Content-Type"], body)
        self.server.requests.append(request)
        self.send_response(self.server.status[self.command])
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_POST = do_GET  # noqa: N815 - what http.server calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


SAMPLE = samples.form("documentation-sample")


class TestSend:
    @pytest.fixture
    def receiver(self) -> Iterator[Receiver]:
        """Run a receiver."""
        with Receiver() as receiver:
            yield receiver

    def test_a_sample_of_each_shape_is_recorded(self, shell: Shell, tmp_path: Path) -> None:
        """By the function itself, once it is up."""
        token = "51856fefc120afa4b628cc82d3935cce"
        shell("portals", "add", "--member-id", MEMBER_ID, "--token", token)
        with Function(
            tmp_path / "log", STORE="local", LOCAL_STORE_PATH=str(shell.path)
        ) as function:
            send = ("send", "--url", function.url, "--wait", "5")
            answers = shell.json(*send)
            answers += shell.json(*send, "--shape", "customer", "--message-id", "2")

        assert [{"status": "recorded", "recorded": 1, "duplicates": 0}] * 2 == answers
        records = shell.json("deletions")
        assert [("customer", "2"), ("portal", "2056")] == [
            (record["origin"], record["message_id"]) for record in records
        ]

    def test_the_documentations_sample_is_sent_by_default(
        self, shell: Shell, receiver: Receiver
    ) -> None:
        """Byte by byte, and nothing else."""
        done = shell("send", "--url", receiver.url)

        assert (0, f"{receiver.url} answers 200: {{}}\n", "") == done
        assert [("POST", "/", FORM, SAMPLE)] == receiver.requests

    @pytest.mark.parametrize(
        ("shape", "data"),
        [
            (
                "portal",
                {
                    "data[CONNECTOR]": "C",
                    "data[LINE]": "7",
                    "data[DATA][0][im][chat_id]": "1024",
                    "data[DATA][0][im][message_id]": "2056",
                    "data[DATA][0][message][id]": "№ 1",
                    "data[DATA][0][chat][id]": "a=b&c",
                },
            ),
            (
                "customer",
                {
                    "data[DATA][connector][connector_id]": "C",
                    "data[DATA][connector][line_id]": "7",
                    "data[DATA][connector][chat_id]": "a=b&c",
                    "data[DATA][connector][user_id]": "1985",
                    "data[DATA][message][id]": "№ 1",
                    "data[DATA][chat][id]": "a=b&c",
                },
            ),
        ],
    )
    def test_what_tells_events_apart_can_be_chosen(
        self, shell: Shell, receiver: Receiver, shape: str, data: dict[str, str]
    ) -> None:
        """The rest stays as it is in the documentation."""
        where = ("--url", f"{receiver.url}/hook", "--shape", shape)
        whose = ("--member-id", "M", "--token", "T", "--domain", "x.bitrix24.com")
        what = ("--connector", "C", "--line", "7", "--chat-id", "a=b&c", "--message-id", "№ 1")

        assert [{}] == shell.json("send", *where, *whose, *what)

        (request,) = receiver.requests
        assert "/hook" == request.path
        sample = parse_qsl(SAMPLE.decode())
        assert dict(parse_qsl(request.body.decode())) == {
            **{name: value for name, value in sample if not name.startswith("data")},
            **data,
            "auth[domain]": "x.bitrix24.com",
            "auth[client_endpoint]": "https://x.bitrix24.com/rest/",
            "auth[member_id]": "M",
            "auth[application_token]": "T",
        }

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (202, 1), (403, 1)])
    def test_the_answer_is_shown_whatever_it_is(
        self, shell: Shell, receiver: Receiver, status: int, code: int
    ) -> None:
        """Anything but a plain success is a failure; what is no text does no harm."""
        receiver.status["POST"] = status
        receiver.answer = b"\xff!"

        line = f"{receiver.url} answers {status}: \ufffd!\n"
        assert (code, line, "") == shell("send", "--url", receiver.url)
        assert (code, "\ufffd!\n", "") == shell("send", "--url", receiver.url, "--json")

    @pytest.mark.parametrize("status", [200, 404])
    def test_it_waits_no_longer_than_until_there_is_an_answer(
        self, shell: Shell, receiver: Receiver, status: int
    ) -> None:
        """Events are taken on any path, but GET only on two."""
        receiver.status["GET"] = status

        assert 0 == shell("send", "--url", receiver.url, "--wait", "20")[0]
        assert ["GET", "POST"] == [request.method for request in receiver.requests]

    def test_it_waits_for_a_function_that_starts_late(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As long as it may."""
        receivers = []
        with ExitStack() as stack:

            def start(_seconds: float) -> None:
                receivers.append(stack.enter_context(Receiver(port)))

            port = free_port()
            monkeypatch.setattr("time.sleep", start)  # meanwhile, it starts
            assert 0 == shell("send", "--url", f"http://127.0.0.1:{port}", "--wait", "20")[0]

        (receiver,) = receivers
        assert ["GET", "POST"] == [request.method for request in receiver.requests]

    @pytest.mark.parametrize("wait", [[], ["--wait", "0.05"]])
    def test_nobody_there_is_said_plainly(self, shell: Shell, wait: list[str]) -> None:
        """Also after waiting."""
        reason = f"[Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}"
        for url, why in (
            (f"http://127.0.0.1:{free_port()}", f"<urlopen error {reason}>"),
            (f"https://127.0.0.1:{free_port()}", f"<urlopen error {reason}>"),
            ("http://[::1", "Invalid IPv6 URL"),
        ):
            told = f"{url} does not answer: {why}. Is the function running?\n"
            assert (1, "", told) == shell("send", "--url", url, *wait)

    def test_an_address_is_one_of_the_web(self, shell: Shell) -> None:
        """No file is taken for a function's answer."""
        told = "python -m handler send: error: argument --url: give the function's http(s) address"

        assert told == shell.usage_error("send", "--url", "file:///etc/passwd")
