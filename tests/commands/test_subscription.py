"""`python -m handler subscription`: bindings at a portal, by hand."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from handler.commands import main
from tests.doubles.bitrix24 import (
    Bitrix24,
    Disconnect,
    Fault,
    Html,
    Installation,
    OtherResult,
    Refusal,
)
from tests.doubles.function import ROOT, environment

URL = "https://function.example.com/"
EVENTS = [
    "ONOPENLINEMESSAGEDELETE",
    "ONOPENLINEMESSAGEDELETE (offline queue)",
    "ONOFFLINEEVENT",
    "ONAPPUNINSTALL",
]
Ran = tuple[int, str, str]


@pytest.fixture
def installation(bitrix: Bitrix24) -> Installation:
    """Install an application at a portal."""
    return bitrix.add_portal().install()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all settings of the person running the tests."""
    monkeypatch.setattr("os.environ", environment())


def run(
    capsys: pytest.CaptureFixture[str], installation: Installation, action: str, *more: str
) -> Ran:
    """Run a command in this process as an administrator; its output must contain no token."""
    code = main(["subscription", action, *options(installation), *more])
    printed = capsys.readouterr()
    for secret in secrets_of(installation):
        assert secret not in printed.out + printed.err
    return code, printed.out, printed.err


def secrets_of(installation: Installation) -> list[str]:
    """Return every token of the Bitrix24 around an installation."""
    bitrix = installation.portal.bitrix
    assert isinstance(bitrix, Bitrix24)
    return bitrix.secrets


def options(installation: Installation, user: int = 1) -> list[str]:
    """Return the options that every action requires."""
    token = installation.token(user).access_token
    endpoint = installation.portal.client_endpoint
    return ["--endpoint", endpoint, "--access-token", token, "--url", URL]


def test_a_subscription_is_made_from_a_shell(installation: Installation) -> None:
    """Status and bind as processes: JSON on stdout, the result as exit code."""
    expected: list[tuple[str, int, object]] = [
        ("status", 1, {event: {"bound": False, "users": []} for event in EVENTS}),
        ("bind", 0, {"subscribed": True, "problems": []}),
    ]
    for action, code, printed in expected:
        command = [sys.executable, "-m", "handler", "subscription", action, "--json"]
        done = subprocess.run(
            [*command, *options(installation)],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, json.loads(done.stdout), done.stderr) == (code, printed, "")
    assert len(installation.bindings) == 4


def test_people_get_a_table_and_sentences(
    capsys: pytest.CaptureFixture[str], installation: Installation
) -> None:
    """And programs get JSON."""
    assert run(capsys, installation, "bind") == (0, "Everything is bound.\n", "")
    users: dict[str, list[int]] = dict(zip(EVENTS, ([0], [], [1], [1]), strict=True))
    everything = json.dumps({event: {"bound": True, "users": users[event]} for event in EVENTS})
    assert run(capsys, installation, "status", "--json") == (0, f"{everything}\n", "")
    installation.bindings.pop(0)
    code, table, _ = run(capsys, installation, "status")
    assert (code, table.splitlines()) == (
        1,
        [
            "EVENT                                    BOUND  AS USER",
            "ONOPENLINEMESSAGEDELETE                  no     -",
            "ONOPENLINEMESSAGEDELETE (offline queue)  yes    -",
            "ONOFFLINEEVENT                           yes    1",
            "ONAPPUNINSTALL                           yes    1",
            "`subscription bind` binds what is missing; so does Reinstall.",
        ],
    )
    assert run(capsys, installation, "unbind") == (0, "3 bindings removed.\n", "")
    assert installation.bindings == []
    assert run(capsys, installation, "unbind") == (0, f"Nothing was bound at {URL}.\n", "")


def test_what_another_user_has_bound_is_named(
    capsys: pytest.CaptureFixture[str], installation: Installation
) -> None:
    """It is useless: the queue's ping must bring an administrator's token."""
    run(capsys, installation, "bind")
    code, table, _ = run(capsys, installation, "status")
    assert (code, "Reinstall" in table) == (0, False)
    (ping,) = (one for one in installation.bindings if one.event == "ONOFFLINEEVENT")
    installation.bindings += [replace(ping, id=99 + user, user_id=user) for user in (27, 0)]
    code, table, err = run(capsys, installation, "status")
    users = "yes    the user who causes it"
    assert (code, f"ONOFFLINEEVENT                           {users}, 1, 27\n" in table) == (
        0,
        True,
    )
    assert f"ONOPENLINEMESSAGEDELETE                  {users}\n" in table
    told = f"ONOFFLINEEVENT is bound at {URL} {{}}, which is wrong: `bind` corrects it.\n"
    assert err == told.format("as user 27") + told.format("without a user")


def test_the_token_may_come_from_standard_input(
    capsys: pytest.CaptureFixture[str], installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To keep it out of the shell's history."""
    given = options(installation)
    token = given[given.index("--access-token") + 1]
    given[given.index("--access-token") + 1] = "-"
    for line, code, told in (
        (f"{token}\n", 0, ""),
        ("\n", 1, "The token is empty: use an administrator's access token.\n"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(line))
        assert main(["subscription", "bind", *given]) == code
        assert capsys.readouterr().err == told


def test_binding_completes_what_is_missing(
    capsys: pytest.CaptureFixture[str], bitrix: Bitrix24, installation: Installation
) -> None:
    """After a partial failure, which is reported, the next `bind` binds only the rest."""
    bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"), after=2, times=2)
    refused = "could not be bound: event.bind was refused (HTTP 500) (INTERNAL_SERVER_ERROR)."
    problem = f"ONOFFLINEEVENT {refused}"
    assert run(capsys, installation, "bind") == (1, f"{problem}\nONAPPUNINSTALL {refused}\n", "")
    bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"))
    code, out, _ = run(capsys, installation, "bind", "--json")
    assert (code, json.loads(out)) == (1, {"subscribed": False, "problems": [problem]})
    bitrix.calls.clear()
    assert run(capsys, installation, "bind")[0] == 0
    (bound,) = bitrix.calls_to("event.bind")
    assert bound.params["event"] == "ONOFFLINEEVENT"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Html(), "event.get: the answer is not JSON (HTTP 200)"),
        (Disconnect(), "127.0.0.1 cannot be reached: it closed the connection"),
        (Refusal(401, "expired_token"), "the access token has expired (expired_token)"),
    ],
)
def test_unavailable_portal_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str],
    bitrix: Bitrix24,
    installation: Installation,
    fault: Fault,
    why: str,
) -> None:
    """On stderr, with the endpoint, without a traceback and without the token."""
    endpoint = installation.portal.client_endpoint
    for action in ("status", "bind"):
        bitrix.fault("event.get", fault)
        assert run(capsys, installation, action) == (1, "", f"{endpoint}: {why}.\n")


def test_failed_unbinding_is_reported(
    capsys: pytest.CaptureFixture[str], bitrix: Bitrix24, installation: Installation
) -> None:
    """Even half-way: the next `unbind` can remove the rest."""
    run(capsys, installation, "bind")
    bitrix.fault("event.unbind", Disconnect(), after=2)
    code, out, err = run(capsys, installation, "unbind")
    why = "127.0.0.1 cannot be reached: it closed the connection"
    assert (code, out, err) == (1, "", f"{installation.portal.client_endpoint}: {why}.\n")
    assert run(capsys, installation, "unbind", "--json") == (0, '{"removed": 2}\n', "")


def test_unbinding_knows_other_spellings_of_the_address(
    capsys: pytest.CaptureFixture[str], installation: Installation
) -> None:
    """Bitrix24 compares literally: any left would still call the function."""
    run(capsys, installation, "bind")
    bound = installation.bindings[0]
    spelled = ("https://function.example.com", "https://Function.example.com:443/%2F")
    others = ("https://function.example.com/other", "https://elsewhere.example.com/")
    installation.bindings += [
        replace(bound, id=90 + number, handler=handler, user_id=number)
        for number, handler in enumerate([*spelled, *others])
    ]
    assert run(capsys, installation, "unbind") == (0, "6 bindings removed.\n", "")
    assert tuple(one.handler for one in installation.bindings) == others
    assert run(capsys, installation, "unbind") == (0, f"Nothing was bound at {URL}.\n", "")


def test_unbinding_includes_the_events_of_texts(
    capsys: pytest.CaptureFixture[str], installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even without KEEP_TEXT_DAYS: an earlier setting may have bound them."""
    monkeypatch.setenv("KEEP_TEXT_DAYS", "30")
    run(capsys, installation, "bind")
    bound = len(installation.bindings)
    assert bound > len(EVENTS)
    monkeypatch.delenv("KEEP_TEXT_DAYS")
    assert run(capsys, installation, "unbind") == (0, f"{bound} bindings removed.\n", "")
    assert installation.bindings == []


def test_unbinding_does_not_trust_an_empty_list(
    capsys: pytest.CaptureFixture[str], bitrix: Bitrix24, installation: Installation
) -> None:
    """Unlisted bindings may exist nevertheless."""
    run(capsys, installation, "bind")
    bitrix.fault("event.get", OtherResult({"result": None}))
    assert run(capsys, installation, "unbind") == (0, "4 bindings removed.\n", "")


def test_only_an_administrator_can_bind(
    capsys: pytest.CaptureFixture[str], installation: Installation
) -> None:
    """The token decides, not who runs the command."""
    assert main(["subscription", "bind", *options(installation, user=27)]) == 1
    told = "the token's user is not an administrator of the portal.\n"
    assert capsys.readouterr().err.endswith(told)
    assert installation.bindings == []


@pytest.mark.parametrize("endpoint", ["http://portal.example.com/rest/", "portal.example.com", ""])
def test_an_endpoint_that_is_not_https_is_refused(
    capsys: pytest.CaptureFixture[str], endpoint: str
) -> None:
    """The token must not be sent unencrypted; the error says what is valid."""
    with pytest.raises(SystemExit) as exit_code:
        main(["subscription", "bind", "--endpoint", endpoint, "--access-token", "t", "--url", URL])
    assert exit_code.value.code == 2
    told = "argument --endpoint: use https://…/rest/ (plain http for localhost only)"
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {told}")


def test_endpoint_may_lack_its_slash(
    capsys: pytest.CaptureFixture[str], installation: Installation
) -> None:
    """As people often copy it."""
    installation.portal.client_endpoint = installation.portal.client_endpoint.rstrip("/")
    assert run(capsys, installation, "bind")[0] == 0


@pytest.mark.parametrize("action", ["status", "bind", "unbind"])
@pytest.mark.parametrize("absent", ["--endpoint", "--access-token", "--url"])
def test_every_option_is_needed(
    capsys: pytest.CaptureFixture[str], installation: Installation, action: str, absent: str
) -> None:
    """The error names the missing one."""
    given = options(installation)
    del given[given.index(absent) : given.index(absent) + 2]
    with pytest.raises(SystemExit) as exit_code:
        main(["subscription", action, *given])
    assert exit_code.value.code == 2
    assert absent in capsys.readouterr().err.splitlines()[-1]
