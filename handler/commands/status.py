"""`status`: check the store and all portals, and list what needs attention."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from handler.console.portal_option import NO_PORTAL, all_portals
from handler.console.portal_state import count_quarantined, needs, state
from handler.console.printing import json_value, print_table, printable, store_deadline
from handler.console.record_reading import last_deletion
from handler.portal import PORTALS, Portal
from handler.stores.interface import Store

_NOT_SEEN_HERE = (
    "Not visible from here: events that were refused or could not be stored, which are in the log"
    " (forbidden, install_refused and not_recorded: docs/reference.md, Outcomes), and deletions for"
    " which no event arrived. If messages were deleted after a portal's last deletion above, its"
    " bindings may be lost: choose Reinstall for the application in Bitrix24."
)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The status of one portal."""

    portal: Portal
    last_deletion_at: datetime | None
    quarantined: int
    needs: Sequence[str]

    @property
    def title(self) -> str:
        """Its member_id, and its domain if known."""
        domain = f" ({self.portal.domain})" if self.portal.domain else ""
        return f"{self.portal.member_id}{domain}"

    def to_json(self) -> dict[str, object]:
        """Return its JSON; unknown values are absent."""
        portal = self.portal
        fields = {
            "member_id": portal.member_id,
            "domain": portal.domain,
            "state": state(portal),
            "last_deletion_at": self.last_deletion_at,
            "drained_at": portal.drained_at,
            "problem": portal.problem,
            "problem_since": portal.problem_since,
            "quarantined": self.quarantined,
            "queue_left": portal.queue_left and portal.queue_left.model_dump(),
            "drain_until": portal.drain and portal.drain.until,
            "needs": self.needs,
        }
        return {name: value for name, value in fields.items() if value is not None}


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "status",
        help="check the store and all portals, and list what needs attention",
        description=__doc__,
        epilog="The exit code is 1 if something needs attention, or if no portal is active.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    started = time.perf_counter()
    store.names(PORTALS, store_deadline(), limit=1)
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    now = datetime.now(UTC)
    found = [_look(store, portal, now) for portal in all_portals(store)]
    missing = _missing(found)
    well = not missing and not any(one.needs for one in found)
    if options.json:
        portals = [one.to_json() for one in found]
        about = {"store": store.name, "answer_ms": milliseconds, "well": well, "portals": portals}
        if missing:
            about["missing"] = missing
        print(json.dumps(about, default=json_value))
    else:
        _print(found, missing, milliseconds)
    return 0 if well else 1


def _look(store: Store, portal: Portal, now: datetime) -> _Found:
    quarantined = count_quarantined(store, [portal.member_id])
    return _Found(
        portal=portal,
        last_deletion_at=last_deletion(store, portal.member_id),
        quarantined=quarantined,
        needs=needs(store, portal, quarantined, now),
    )


def _missing(found: Sequence[_Found]) -> str | None:
    if not found:
        return NO_PORTAL
    if not any(one.portal.active for one in found):
        return (
            "No portal is active, so no events are accepted. Install the application in a portal."
        )
    return None


def _print(found: Sequence[_Found], missing: str | None, milliseconds: float) -> None:
    print(f"The store answered in {milliseconds} ms.")
    if found:
        print()
        print_table(_TITLES, map(_row, found))
    in_need = [one for one in found if one.needs]
    for one in in_need:
        print(f"\n{printable(one.title)}:")
        for sentence in one.needs:
            print(f"  - {printable(sentence)}")
    print()
    if missing:
        print(missing)
    elif in_need:
        print(f"Portals that need attention: {len(in_need)} of {len(found)}.")
    else:
        print("Nothing needs attention.")
    print(_NOT_SEEN_HERE)


_TITLES = (
    "PORTAL",
    "DOMAIN",
    "STATE",
    "LAST DELETION (UTC)",
    "QUEUE LAST EMPTY (UTC)",
    "QUARANTINED",
    "NEEDS",
)


def _row(one: _Found) -> Sequence[object]:
    portal = one.portal
    return (
        portal.member_id,
        portal.domain,
        state(portal),
        one.last_deletion_at,
        portal.drained_at,
        one.quarantined,
        "see below" if one.needs else None,
    )
