"""The commands of `python -m handler`, on the embedded store."""

import io
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from handler.commands import deletions, main
from handler.commands.console import newest_of_portals, print_json
from handler.deadline import Deadline
from handler.documents import Delivery
from handler.local_store import LocalStore
from handler.record import Recorder
from handler.settings import Settings
from handler.store import Document, Fields
from handler.tokens import token_digest
from tests.function import ROOT, Function, environment, free_port

MEMBER_ID = "a223c6b3710f85df22e9377d6c4f7553"


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

    def test_add_takes_domain_and_endpoint(self, shell: Shell) -> None:
        """With an endpoint, the offline queue can be drained too."""
        endpoint = "https://x.bitrix24.com/rest"
        where = ("--domain", "x.bitrix24.com", "--endpoint", endpoint)

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
            (["--member-id", "a/b", "--token", "T"], "'a/b' cannot be a portal's member_id"),
            (["--member-id", "M", "--token", ""], "The token is empty"),
            (["--member-id", "M", "--token", "T", "--endpoint", "http://x.com/"], "--endpoint"),
            (["--member-id", "M"], "--token"),
        ],
    )
    def test_add_refuses_what_makes_no_sense(
        self, shell: Shell, arguments: list[str], complaint: str
    ) -> None:
        """Each complaint says what is wrong, and nothing is stored."""
        code, _, err = shell("portals", "add", *arguments)

        assert code > 0
        assert complaint in err
        assert [] == shell.json("portals", "list")

    def test_list_is_a_table_for_people(self, shell: Shell) -> None:
        """Also for documents that people wrote by hand."""
        shell("portals", "add", "--member-id", "M", "--token", "T", "--domain", "x.bitrix24.com")
        shell.write("portals/by-hand", token_digests=["d"], active=False)

        code, out, _ = shell("portals", "list")

        titles, *rows = (line.split() for line in out.splitlines())
        assert 0 == code
        assert ["MEMBER", "ID", "DOMAIN", "ACTIVE", "TOKENS", "UPDATED"] == titles
        assert ["M", "x.bitrix24.com", "yes", "1"] == rows[0][:4]
        assert ["by-hand", "-", "no", "1", "-"] == rows[1]

    def test_list_leaves_no_portal_out(self, shell: Shell) -> None:
        """An application in the market has hundreds."""
        portals = [Document(f"portals/{number}", {"active": True}) for number in range(301)]
        shell.store.create(portals, "installed_at", Deadline(5))

        assert 301 == len(shell.json("portals", "list"))

    def test_remove_leaves_the_records(self, shell: Shell) -> None:
        """Nothing more is accepted; the records go with purge only."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        shell.record("M", "one")

        assert 0 == shell("portals", "remove", "M")[0]
        assert [] == shell.json("portals", "list")
        assert 1 == len(shell.json("deletions", "--portal", "M"))
        code, _, err = shell("portals", "remove", "M")
        assert (1, True) == (code, "There is no portal M" in err)

    def test_purge_deletes_all_that_is_kept_of_one_portal(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After asking: whoever answers anything else keeps everything."""
        for member_id in ("M", "other"):
            shell("portals", "add", "--member-id", member_id, "--token", "T")
            shell.record(member_id, "one", "two")
            shell.write(f"portals/{member_id}/quarantine/q", received_at=datetime.now(UTC))

        monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
        code, _, err = shell("portals", "purge", "M")
        assert (1, "Nothing is deleted.\n") == (code, err)
        assert 2 == len(shell.json("deletions", "--portal", "M"))

        monkeypatch.setattr("sys.stdin", io.StringIO("Yes\n"))
        code, out, _ = shell("portals", "purge", "M")
        assert 0 == code
        assert "Portal M is deleted, with 3 records." in out
        assert [] == shell.json("deletions", "--portal", "M")
        assert None is shell.fields("portals/M/quarantine/q")
        assert ["other"] == [portal["member_id"] for portal in shell.json("portals", "list")]
        assert 2 == len(shell.json("deletions"))

        assert 0 == shell("portals", "purge", "other", "--yes")[0]
        assert [] == shell.json("deletions", "--portal", "other")

    def test_purge_of_a_portal_that_is_not_there_is_a_failure(self, shell: Shell) -> None:
        """A mistyped member_id has deleted nothing; what `remove` left is found, though."""
        shell.record("M", "one")

        code, out, err = shell("portals", "purge", "typo", "--yes")
        assert (1, "") == (code, out)
        assert "Nothing is kept of a portal typo" in err
        assert "Portal M is deleted, with 1 records." in shell("portals", "purge", "M", "--yes")[1]

    def test_purge_needs_an_answer(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody can answer, nothing is deleted."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        monkeypatch.setattr("sys.stdin", io.StringIO(""))

        code, _, err = shell("portals", "purge", "M")

        assert (1, "Nothing is deleted.\n") == (code, err)
        assert shell.fields("portals/M")


class WatchedStore(LocalStore):
    """Tells which deadlines it was given."""

    def newest(
        self,
        collection: str,
        stamp: str,
        deadline: Deadline,
        **options: Any,  # noqa: ANN401
    ) -> Sequence[Document]:
        self.deadlines.append(deadline)
        return super().newest(collection, stamp, deadline, **options)

    def names(self, collection: str, deadline: Deadline, *, limit: int) -> Sequence[str]:
        self.deadlines = [deadline]
        return super().names(collection, deadline, limit=limit)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Heed interrupts; whatever runs the tests in the background lets them be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestDeletions:
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
            "recorded_at": stored["recorded_at"].isoformat(),  # type: ignore[union-attr]
        }
        assert ["3", "2"] == [one["message_id"] for one in shell.json("deletions", "--limit", "2")]
        assert ["2"] == [one["message_id"] for one in shell.json("deletions", "--portal", "N")]

    def test_each_portal_has_a_time_limit_of_its_own(self, shell: Shell) -> None:
        """However many there are, none comes too late."""
        for member_id in ("M", "N"):
            shell.write(f"portals/{member_id}", active=True)
        store = WatchedStore(str(shell.path))

        assert [] == newest_of_portals(store, None, "deletions", "recorded_at")
        assert 3 == len(set(store.deadlines))

    def test_since_leaves_out_what_is_older(self, shell: Shell) -> None:
        """So long ago, or a moment."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        shell.record("M", "1")
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()

        assert 1 == len(shell.json("deletions", "--since", "1h"))
        assert [] == shell.json("deletions", "--since", tomorrow)

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
        code, _, err = shell("deletions", "--since", text)

        assert 2 == code
        assert "--since: give so long ago" in err

    @pytest.mark.parametrize("count", ["0", "-1", "many", "2147483648", "9" * 5_000])
    def test_a_limit_is_a_whole_number(self, shell: Shell, count: str) -> None:
        """From one on, and not beyond what Firestore takes."""
        code, _, err = shell("deletions", "--limit", count)

        assert (2, True) == (code, "--limit: give a whole number from 1 to 2147483647" in err)

    @pytest.mark.parametrize("command", ["deletions", "quarantine"])
    def test_a_portal_is_a_member_id(self, shell: Shell, command: str) -> None:
        """What cannot be one is told in plain words."""
        code, _, err = shell(command, "--portal", "a/b")

        assert (2, True) == (code, "'a/b' cannot be a portal's member_id" in err)

    def test_nothing_in_a_record_can_command_the_terminal(self, shell: Shell) -> None:
        """External ids are whatever a customer's messenger made of them."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        shell.record("M", "\x1b[2J\x1b[1;1H\nfake line")

        code, out, _ = shell("deletions")

        assert 0 == code
        assert "\x1b" not in out
        assert "\\x1b[2J\\x1b[1;1H\\nfake line" in out
        assert 2 == len(out.splitlines())

    @pytest.mark.parametrize("flags", [[], ["--json"]])
    @pytest.mark.usefixtures("interruptible")
    def test_follow_shows_each_new_record_once(self, shell: Shell, flags: list[str]) -> None:
        """Oldest first, until somebody interrupts; that is a success."""
        shell.write("portals/M", active=True)
        shell.record("M", "first")

        def delete_another_and_interrupt() -> None:
            shell.record("M", "second")
            time.sleep(2.5)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=delete_another_and_interrupt).start()
        code, out, err = shell("deletions", "--follow", *flags)

        assert (0, "") == (code, err)
        first, second = out.splitlines()
        assert "first" in first
        assert "second" in second

    @pytest.mark.usefixtures("interruptible")
    def test_follow_waits_for_the_first_record(self, shell: Shell) -> None:
        """Whatever this machine's clock says, since the store's own time counts."""
        shell.write("portals/M", active=True)

        def delete_and_interrupt() -> None:
            time.sleep(1)
            shell.record("M", "first")
            time.sleep(2.5)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=delete_and_interrupt).start()
        code, out, err = shell("deletions", "--follow")

        assert (0, "", 1) == (code, err, len(out.splitlines()))
        assert "first" in out

    @pytest.mark.parametrize("flags", [[], ["--json"]])
    def test_follow_is_a_stream_for_other_programs(self, tmp_path: Path, flags: list[str]) -> None:
        """Each line comes at once, also through a pipe."""
        path = str(tmp_path / "store.sqlite3")
        store = Shell(Path(path), capsys=None)  # type: ignore[arg-type] # prints nothing
        store.write("portals/M", active=True)
        store.record("M", "first")
        process = subprocess.Popen(
            [sys.executable, "-m", "handler", "deletions", "--follow", *flags],
            cwd=ROOT,
            env=environment(STORE="local", LOCAL_STORE_PATH=path),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        store.record("M", "second")
        lines.append(process.stdout.readline())
        process.terminate()
        rest, _ = process.communicate(timeout=20)

        assert "" == rest
        for line, message_id in zip(lines, ("first", "second"), strict=True):
            assert message_id in line
            assert bool(flags) == line.startswith("{")


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
            reasons=["data.LINE: should be a whole number"],
            payload=payload,
            received_at=datetime.now(UTC),
            **fields,
        )

    def test_lists_what_did_not_fit_and_why(self, shell: Shell) -> None:
        """A table for people, JSON lines for programs."""
        shell.write("portals/M", active=True)
        self.keep(shell, "q", "{}")

        code, out, _ = shell("quarantine")
        (line,) = shell.json("quarantine", "--portal", "M")

        assert 0 == code
        assert "data.LINE: should be a whole number" in out
        assert ("q", "{}") == (line["id"], line["payload"])

    def test_retry_records_what_fits_by_now_and_takes_it_out(self, shell: Shell) -> None:
        """What still does not fit stays, and the command says so."""
        shell.write("portals/M", active=True)
        moment = datetime(2026, 3, 17, tzinfo=UTC)
        self.keep(shell, "good", FITS, event_at=moment, user_id=27, domain="d")
        self.keep(shell, "bad", '{"LINE": "x"}')
        self.keep(shell, "cut", '{"LINE": "x')

        code, out, _ = shell("quarantine", "retry")

        assert 1 == code
        assert "bad still does not fit: data.CONNECTOR: Field required" in out
        assert "cut still does not fit" in out
        assert "1 recorded, 0 known already, 2 left." in out
        assert ["bad", "cut"] == sorted(kept["id"] for kept in shell.json("quarantine"))
        (record,) = shell.json("deletions")
        assert ("replay", moment.isoformat(), 27, "d") == tuple(
            record[name] for name in ("via", "event_at", "user_id", "domain")
        )

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
        assert "0 recorded, 1 known already, 0 left." in shell("quarantine", "retry")[1]
        self.keep(shell, "unwanted", FITS)
        monkeypatch.setenv("CONNECTORS", "another")

        assert (0, "0 recorded, 0 known already, 0 left.\n", "") == shell("quarantine", "retry")
        assert [] == shell.json("quarantine")


class TestSend:
    @pytest.fixture
    def function(self, shell: Shell, tmp_path: Path) -> Function:
        """Make a function on the same store; nobody has started it yet."""
        return Function(tmp_path / "log", STORE="local", LOCAL_STORE_PATH=str(shell.path))

    @pytest.mark.parametrize("shape", ["portal", "customer"])
    def test_a_sample_of_each_shape_is_recorded(
        self, shell: Shell, function: Function, shape: str
    ) -> None:
        """With the documentation's own ids and token, unless told otherwise."""
        token = "51856fefc120afa4b628cc82d3935cce"
        shell("portals", "add", "--member-id", MEMBER_ID, "--token", token)
        with function:
            code, out, _ = shell("send", "--url", function.url, "--shape", shape)
            (answer,) = shell.json(
                "send", "--url", function.url, "--shape", shape, "--message-id", "2", "--wait", "5"
            )

        assert (0, True) == (code, "answers 200" in out)
        assert {"status": "recorded", "recorded": 1, "duplicates": 0} == answer
        records = shell.json("deletions")
        assert [shape, shape] == [record["origin"] for record in records]
        assert ["2", "2056"] == [record["message_id"] for record in records]

    def test_a_refusal_is_a_failure(self, shell: Shell, function: Function) -> None:
        """The answer is shown all the same."""
        with function:
            code, out, _ = shell("send", "--url", function.url, "--token", "wrong")

        assert (1, True) == (code, '"error": "forbidden"' in out)

    def test_it_waits_no_longer_than_until_there_is_an_answer(
        self, shell: Shell, function: Function
    ) -> None:
        """Events are taken on any path, but GET only on two."""
        with function:
            started = time.monotonic()
            code, out, _ = shell("send", "--url", f"{function.url}/hook", "--wait", "20")

        assert time.monotonic() - started < 10
        assert (1, True) == (code, '"error": "forbidden"' in out)

    def test_nobody_there_is_said_plainly(self, shell: Shell) -> None:
        """Also after waiting."""
        url = f"http://127.0.0.1:{free_port()}"

        code, _, err = shell("send", "--url", url, "--wait", "0.3")

        assert (1, True) == (code, f"{url} does not answer" in err)
        code, _, err = shell("send", "--url", "http://[::1", "--wait", "0.1")
        assert (1, True) == (code, "http://[::1 does not answer" in err)
        assert 2 == shell("send", "--url", "file:///etc/passwd")[0]
