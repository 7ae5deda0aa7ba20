"""`python -m handler status`: what is well, and what needs attention."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document, Fields
from tests.commands.shell import MOMENT, Shell

NOT_SEEN_HERE = (
    "Not visible from here: events that were refused or could not be stored, which are in the log"
    " (forbidden, install_refused and not_recorded: docs/reference.md, Outcomes), and deletions for"
    " which no event arrived. If messages were deleted after a portal's last deletion above, its"
    " bindings may be lost: choose Reinstall for the application in Bitrix24.\n"
)
REINSTALL = (
    "let an administrator of the portal choose Reinstall for the application in Bitrix24"
    " (right-click it in the list of applications)"
)
NEXT = f"The next deletion in an open line continues it; if you expect none, {REINSTALL}."
NO_PORTAL = (
    "There are no portals in this store: install the application in a portal, or enter one with"
    " `portals add`."
)
FUTURE = datetime(9000, 1, 1, tzinfo=UTC)


def status(shell: Shell) -> tuple[int, str]:
    """Return the exit code and the output without the store's response time."""
    code, out, err = shell("status")
    first, _, rest = out.partition("\n")
    assert re.fullmatch(r"The store answered in \d+\.\d ms\.", first)
    assert "" == err
    return code, rest


def needs(shell: Shell, **fields: Any) -> list[str]:  # noqa: ANN401
    """Return what a portal with these fields needs, checked in JSON and in text."""
    shell.write("portals/M", **{"active": True, "token_digests": ["d"], **fields})
    code, out, _ = shell("status", "--json")
    (portal,) = _json(out)["portals"]
    found: list[str] = portal["needs"]
    assert (1 if found or not fields.get("active", True) else 0) == code
    assert (code == 0) is _json(out)["well"]
    code, text = status(shell)
    assert found == [line.removeprefix("  - ") for line in text.splitlines() if "  - " in line[:4]]
    return found


def _json(text: str) -> dict[str, Any]:
    return json.loads(text)  # type: ignore[no-any-return]


def deletion(
    shell: Shell, name: str, recorded_at: datetime, via: str = "online", member_id: str = "M"
) -> None:
    """Store a deletion of the portal."""
    shell.write(f"portals/{member_id}/deletions/{name}", recorded_at=recorded_at, via=via)


def test_all_is_well(shell: Shell) -> None:
    """One line per portal, and the exit code is 0."""
    active = {"active": True, "token_digests": ["d"], "drained_at": MOMENT}
    shell.write("portals/M", **active, domain="x.bitrix24.com")
    shell.write("portals/N", active=False, removed_at=MOMENT)
    deletion(shell, "1", MOMENT - timedelta(minutes=1))
    deletion(shell, "2", MOMENT)

    table = (
        "\n"
        "PORTAL  DOMAIN          STATE    LAST DELETION (UTC)  QUEUE LAST EMPTY (UTC)  QUARANTINED"
        "  NEEDS\n"
        "M       x.bitrix24.com  active   2026-03-17 12:00:00  2026-03-17 12:00:00     0"
        "            -\n"
        "N       -               removed  -                    -                       0"
        "            -\n"
        "\n"
        f"Nothing needs attention.\n{NOT_SEEN_HERE}"
    )
    assert (0, table) == status(shell)


def test_last_deletion_is_the_newest_not_the_last_recorded(shell: Shell) -> None:
    """After a replay of old deletions, a silent portal must not look alive.

    Old records without a time of their own count by when they were recorded.
    """
    path, hours = "portals/M/deletions", timedelta(hours=1)
    shell.write("portals/M", active=True, token_digests=["d"])
    shell.write(f"{path}/new", recorded_at=MOMENT, event_at=MOMENT)
    shell.write(f"{path}/replayed", recorded_at=MOMENT + 9 * hours, event_at=MOMENT - hours)
    shell.write("portals/N", active=True, token_digests=["d"])
    shell.write("portals/N/deletions/timed", recorded_at=MOMENT - hours, event_at=MOMENT - hours)
    deletion(shell, "untimed", MOMENT, member_id="N")

    _, out, _ = shell("status", "--json")
    portals = _json(out)["portals"]
    portals += shell.json("portals", "list")

    assert [MOMENT.isoformat()] * 4 == [portal["last_deletion_at"] for portal in portals]


def test_needs_are_listed_below_the_table(shell: Shell) -> None:
    """By portal; the exit code is 1."""
    for name in ("a", "b", "c"):
        shell.write(f"portals/{name}", active=True, token_digests=["d"])
    shell.write("portals/d", active=True, domain="\x1b.bitrix24.com")
    shell.write("portals/a/quarantine/1", received_at=MOMENT)

    code, text = status(shell)

    quarantined = (
        "1 event in quarantine: some of the data is invalid, so some deletions are not recorded."
        " `python -m handler quarantine --portal a` says why. After an update of the function,"
        " record them with `python -m handler quarantine retry --portal a`; `python -m handler"
        " quarantine drop ID` deletes one permanently."
    )
    token = (
        "It has no accepted token. Enter one with `python -m handler portals add`, or install the"
        " application."
    )
    below = (
        f"\na:\n  - {quarantined}\n\nd (\\x1b.bitrix24.com):\n  - {token}\n\n"
        f"Portals that need attention: 2 of 4.\n{NOT_SEEN_HERE}"
    )
    assert 1 == code
    assert text.endswith(below)
    assert ["1            see below", "0            see below"] == re.findall(
        r"\d +see below$", text, re.MULTILINE
    )


def test_programs_read_one_object(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything known about each portal."""
    shell.write(
        "portals/M",
        active=True,
        token_digests=["d"],
        domain="x.bitrix24.com",
        problem="P.",
        problem_since=MOMENT,
        drained_at=MOMENT,
        queue_left={"rows": "more than 49", "at": MOMENT},
        drain={"until": FUTURE, "nonce": "n", "user": 1},
    )
    deletion(shell, "1", MOMENT)
    shell.write("portals/N", active=True, token_digests=["d"])

    monkeypatch.setattr("time.perf_counter", iter([1.0, 3.5]).__next__)
    code, out, _ = shell("status", "--json")

    found = _json(out)
    moment = "2026-03-17T12:00:00+00:00"
    need = (
        "P. (Since 2026-03-17 12:00:00 UTC.) The drain at 2026-03-17 12:00:00 UTC left more than 49"
        " rows in the portal's offline queue."
    )
    assert found == {
        "store": str(shell.path),
        "answer_ms": 2_500.0,
        "well": False,
        "portals": [
            {
                "member_id": "M",
                "domain": "x.bitrix24.com",
                "state": "active",
                "last_deletion_at": moment,
                "drained_at": moment,
                "problem": "P.",
                "problem_since": moment,
                "quarantined": 0,
                "queue_left": {"rows": "more than 49", "at": moment},
                "drain_until": FUTURE.isoformat(),
                "needs": [need],
            },
            {"member_id": "N", "state": "active", "quarantined": 0, "needs": []},
        ],
    }
    assert 1 == code


@pytest.mark.parametrize(
    ("portals", "missing"),
    [
        ([], NO_PORTAL),
        (
            [{"active": False, "installed_at": MOMENT}, {"removed_at": MOMENT}],
            "No portal is active, so no events are accepted. Install the application in a portal.",
        ),
    ],
)
def test_a_store_without_active_portals_is_not_well(
    shell: Shell, portals: list[Any], missing: str
) -> None:
    """Nothing is recorded then, although it looks quiet."""
    for number, fields in enumerate(portals):
        shell.write(f"portals/{number}", **fields)

    code, text = status(shell)
    assert (1, True) == (code, text.endswith(f"\n{missing}\n{NOT_SEEN_HERE}"))
    code, out, _ = shell("status", "--json")
    assert (1, missing, False) == (code, _json(out)["missing"], _json(out)["well"])


def test_problem_is_shown_as_stored(shell: Shell) -> None:
    """It already says what to do, also about the queue."""
    assert ["Do this."] == needs(shell, problem="Do this.")


@pytest.mark.parametrize(("rows", "left"), [(1, "1 row"), (7, "7 rows"), ("more than 49", None)])
def test_rows_left_by_a_drain_are_reported(shell: Shell, rows: int | str, left: str | None) -> None:
    """With what continues it."""
    told = (
        f"The drain at 2026-03-17 12:00:00 UTC left {left or f'{rows} rows'} in the portal's"
        f" offline queue. {NEXT}"
    )

    assert [told] == needs(shell, queue_left={"rows": rows, "at": MOMENT})


@pytest.mark.parametrize(
    "otherwise",
    [
        {},
        {"checked_at": MOMENT},
        {"allowed": None},  # entered by hand, or installed by 0.1.0
        {"client_id": None},  # removed, and then entered by hand
        {"drain": {"until": FUTURE, "nonce": "n", "user": 1}},
        {"problem": "P."},
        {"active": False},
    ],
)
def test_interrupted_install_is_reported(shell: Shell, otherwise: Fields) -> None:
    """Without bindings, no event arrives that could repair them."""
    told = (
        "Its last install ended before the bindings were checked, so events may not arrive:"
        f" {REINSTALL}."
    )

    found = needs(shell, **{"allowed": False, "client_id": "local.ours", **otherwise})

    assert (told in found) is (otherwise == {})


def test_portal_that_was_removed_and_entered_again_needs_nothing(shell: Shell) -> None:
    """Nothing was installed, so there are no bindings to check."""
    add = ("portals", "add", "--member-id", "M", "--token", "T")

    for command in (add, ("portals", "remove", "M"), add):
        assert 0 == shell(*command)[0]

    assert 0 == shell("status")[0]


@pytest.mark.parametrize(("until", "ended"), [(MOMENT, True), (FUTURE, False)])
def test_unreleased_lease_is_reported(shell: Shell, until: datetime, ended: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Before it expires, a drain is under way."""
    told = f"A drain was interrupted: it did not end by 2026-03-17 12:00:00 UTC. {NEXT}"

    found = needs(shell, drain={"until": until, "nonce": "n", "user": 1})

    assert ([told] if ended else []) == found


def test_advice_is_given_once(shell: Shell) -> None:
    """For an interrupted drain, and what the previous one left."""
    told = needs(
        shell,
        queue_left={"rows": 2, "at": MOMENT},
        drain={"until": MOMENT, "nonce": "n", "user": 1},
    )

    left = "The drain at 2026-03-17 12:00:00 UTC left 2 rows in the portal's offline queue."
    interrupted = "A drain was interrupted: it did not end by 2026-03-17 12:00:00 UTC."
    assert told == [f"{left} {interrupted} {NEXT}"]


def test_an_uninstalled_portal_has_no_queue_to_continue(shell: Shell) -> None:
    """No ping comes, and Bitrix24 deletes the queue with the application."""
    left = {"rows": 2, "at": MOMENT}
    drain = {"until": MOMENT, "nonce": "n", "user": 1}

    assert [] == needs(shell, active=False, queue_left=left, drain=drain)


def test_request_to_delete_data_is_reported_until_decided(shell: Shell) -> None:
    """By `purge`, which deletes the document, too, or by `remove`."""
    asked = {"active": False, "installed_at": MOMENT, "clean_requested_at": MOMENT}
    told = (
        "It was uninstalled at 2026-03-17 12:00:00 UTC with a request to delete its data. If that"
        " was intended, delete it with `python -m handler portals purge M`, or keep the"
        " records with `python -m handler portals remove M`. If not, let an administrator of the"
        " portal choose Reinstall for the application in Bitrix24 (right-click it in the list of"
        " applications)."
    )
    assert [told] == needs(shell, **asked)

    assert 0 == shell("portals", "remove", "M")[0]

    code, text = status(shell)
    assert (1, False) == (code, told in text)


def test_late_uninstall_of_an_application_that_was_added_again_needs_nothing(shell: Shell) -> None:
    """Deleting a local application always asks to delete data; the portal is still active."""
    assert [] == needs(shell, installed_at=MOMENT, clean_requested_at=MOMENT)


class TestPings:
    """A deletion arrived online more than an hour after the queue was last empty."""

    AFTER = timedelta(hours=1)

    def told(self, came: datetime, queue: str) -> list[str]:
        """Return the sentence."""
        told = (
            f"A deletion arrived at {came:%Y-%m-%d %H:%M:%S} UTC, but its offline queue was"
            f" {queue}: the portal's pings do not arrive, so deletions that the function misses are"
            f" not recovered. If that deletion is older than two minutes, {REINSTALL}, which binds"
            " the ping again."
        )
        return [told]

    def test_missing_pings_are_reported(self, shell: Shell) -> None:
        """With the newest such deletion."""
        deletion(shell, "1", MOMENT + self.AFTER)
        deletion(shell, "2", MOMENT + 2 * self.AFTER)
        deletion(shell, "3", MOMENT + 3 * self.AFTER, via="replay")

        told = self.told(MOMENT + 2 * self.AFTER, "last found empty at 2026-03-17 12:00:00 UTC")
        assert told == needs(shell, drained_at=MOMENT)

    @pytest.mark.parametrize(("later", "found"), [(100, True), (999, True), (1_000, False)])
    def test_missing_pings_are_found_behind_other_records(
        self,
        shell: Shell,
        later: int,
        found: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        """Of a replay, for example; up to a thousand are read."""
        came = MOMENT + self.AFTER
        deletion(shell, "1", came)
        others = [
            Document(f"portals/M/deletions/replayed-{number}", {"via": "replay"})
            for number in range(later)
        ]
        assert later == shell.store.create(others, "recorded_at", Deadline(30))

        told = self.told(came, "last found empty at 2026-03-17 12:00:00 UTC") if found else []
        assert told == needs(shell, drained_at=MOMENT)

    def test_queue_that_was_never_read_is_reported(self, shell: Shell) -> None:
        """Counted from when the bindings were checked."""
        deletion(shell, "1", MOMENT + self.AFTER)

        assert self.told(MOMENT + self.AFTER, "never read") == needs(shell, checked_at=MOMENT)

    @pytest.mark.parametrize(
        "fields",
        [
            {},  # entered by hand: nothing pings
            {"drained_at": MOMENT + timedelta(seconds=1)},
            {"drained_at": MOMENT, "checked_at": MOMENT + timedelta(seconds=1)},
            {"drained_at": MOMENT, "drain": {"until": FUTURE, "nonce": "n", "user": 1}},
            {"drained_at": MOMENT, "active": False},
        ],
    )
    def test_explained_silence_raises_no_alarm(self, shell: Shell, fields: dict[str, Any]) -> None:
        """Nor is a ping within the hour."""
        deletion(shell, "1", MOMENT + self.AFTER)

        assert [] == needs(shell, **fields)

    @pytest.mark.parametrize(
        ("fields", "beginning"),
        [
            ({"problem": "P."}, "P."),
            ({"queue_left": {"rows": 1, "at": MOMENT + timedelta(hours=1)}}, "The drain at"),
        ],
    )
    def test_known_cause_is_reported_alone(
        self, shell: Shell, fields: dict[str, Any], beginning: str
    ) -> None:
        """Two remedies for one problem would be confusing."""
        deletion(shell, "1", MOMENT + self.AFTER)

        (told,) = needs(shell, drained_at=MOMENT, **fields)

        assert told.startswith(beginning)
