"""WHEN: the moments that people type, and the time zone that they mean."""

import argparse
import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from handler.console.printing import CommandError

When: TypeAlias = date | datetime
"""A day, or a moment; one without a zone is in the zone that `--timezone` names."""

_AGO = re.compile(r"(\d{1,5})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_range_options(parser: Any, *, since: str | None = None) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add `--since`, `--until` and `--timezone`; `read_range` reads them."""
    parser.add_argument(
        "--since",
        metavar="WHEN",
        type=when,
        default=since,
        help="deleted then or later: 30m, 12h, 7d (ago), 2026-11-22 or 2026-11-22T10:00Z"
        + (f" ({since})" if since else ""),
    )
    parser.add_argument(
        "--until",
        metavar="WHEN",
        type=when,
        help="deleted before then; of a date, the whole day is included",
    )
    parser.add_argument(
        "--timezone",
        metavar="ZONE",
        type=zone,
        default=UTC,
        help="read and show times in this zone, such as Europe/Berlin (UTC)",
    )


def read_range(
    options: argparse.Namespace, until: datetime | None = None
) -> tuple[datetime | None, datetime | None]:
    """Return from when, inclusive, until when, exclusive, by default `until`.

    Raises `CommandError` for a range that holds nothing.
    """
    since = options.since and _start(options.since, options.timezone)
    if options.until:
        until = _end(options.until, options.timezone)
    if since and until and since >= until:
        raise CommandError("--since must be before --until.")
    return since, until


def when(text: str) -> When:
    """Read a moment: so long ago, a date, or a time."""
    ago = _AGO.fullmatch(text)
    if ago:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(
        "give so long ago (30m, 12h, 7d), or a date or time (2026-11-22T10:00Z)"
    )


def zone(name: str) -> tzinfo:
    """Read the name of a time zone."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # of a name that is a folder, or no path, or unknown
        raise argparse.ArgumentTypeError(
            f"{name!r} is not a time zone that this machine knows; give one such as Europe/Berlin"
        ) from None


def zone_name(zone: tzinfo) -> str:
    """Return a zone's name, for titles."""
    return str(zone)


def time_text(moment: datetime, zone: tzinfo) -> str:
    """Write a moment as a clock in a zone shows it, so that texts sort as times do."""
    try:
        moment = moment.astimezone(zone)
    except OverflowError:  # within a day of the first or last that Python knows
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(" ", "seconds")


def _start(moment: When, zone: tzinfo) -> datetime:
    if isinstance(moment, datetime):
        return _in_utc(moment, zone)
    return _in_utc(datetime.combine(moment, time()), zone)


def _end(moment: When, zone: tzinfo) -> datetime:
    if isinstance(moment, datetime):
        return _in_utc(moment, zone)
    if moment == date.max:
        return datetime.max.replace(tzinfo=UTC)
    return _start(moment + timedelta(days=1), zone)


def _in_utc(moment: datetime, zone: tzinfo) -> datetime:
    """Return it in UTC; the first and last hours that Python knows are not the same day there."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment.replace(tzinfo=UTC)
