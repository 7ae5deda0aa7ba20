"""Why deletions of a portal may be missing: quarantine, problems, offline queue."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from handler.console.moments import time_text
from handler.console.portal_state import count_quarantined
from handler.console.printing import store_deadline
from handler.log import count
from handler.portal import Portal, read_portal
from handler.stores.interface import Store


@dataclass(frozen=True)
class PortalFacts:
    """A portal's domain or member_id, and sentences about it."""

    name: str
    sentences: list[str]


def portal_facts(
    store: Store, members: Sequence[str], since: datetime | None, zone: tzinfo
) -> list[PortalFacts]:
    """Return the facts about each portal."""
    found = []
    for member in members:
        portal = read_portal(store, member, store_deadline())
        quarantined = count_quarantined(store, [member], since=since)
        sentences = [*_quarantined(quarantined), *_state(portal, since, zone)]
        found.append(PortalFacts((portal and portal.domain) or member, sentences))
    return found


def _quarantined(number: int) -> Iterator[str]:
    if number:
        yield (
            f"{number:,} {'event has' if number == 1 else 'events have'} invalid data and"
            f" {'is' if number == 1 else 'are'} in quarantine: some deletions may be missing."
        )


def _state(portal: Portal | None, since: datetime | None, zone: tzinfo) -> Iterator[str]:
    if portal is None:
        yield "This portal is no longer known: nothing new is recorded."
        return
    if portal.installed_at and since and portal.installed_at > since:
        yield (
            f"The application was last installed on {_time(portal.installed_at, zone)}: earlier"
            " deletions may not have been recorded."
        )
    if not portal.active:
        yield (
            "This portal is not active: nothing new is recorded until the application is"
            " installed again."
        )
    if portal.problem:
        begun = f" (since {_time(portal.problem_since, zone)})" if portal.problem_since else ""
        yield f"There is a problem{begun}: {portal.problem}"
    if portal.queue_left:
        left = portal.queue_left
        yield (
            f"On {_time(left.at, zone)}, {count(left.rows, 'event')} remained in the portal's"
            " offline queue: deletions may be missing."
        )
    if portal.drained_at:
        yield (
            f"The portal's offline queue, which keeps missed events, was last empty on"
            f" {_time(portal.drained_at, zone)}. Later deletions may be missing."
        )
    else:
        yield (
            "The portal's offline queue, which keeps missed events, has never been read to its"
            " end. Deletions may be missing."
        )


def _time(moment: datetime, zone: tzinfo) -> str:
    return f"{time_text(moment, zone)[:16]} {zone}"
