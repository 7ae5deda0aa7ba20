"""Parses `--since`, `--until` and `--timezone`."""

import argparse
import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from handler.console.printing import CommandError

When: TypeAlias = date | datetime
"""A day or a moment; without a zone, it is in the zone of `--timezone`."""

_AGO = re.compile(r"(\d{1,5})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_range_options(parser: Any, *, since: str | None = None) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add `--since`, `--until` and `--timezone`; `read_range` reads them."""
    parser.add_argument(
        "--since",
        metavar="WHEN",
        type=when,
        default=since,
        help="deleted at this time or later: 30m, 12h, 7d (ago), 2026-11-22 or 2026-11-22T10:00Z"
        + (f" (default {since})" if since else ""),
    )
    parser.add_argument(
        "--until",
        metavar="WHEN",
        type=when,
        help="deleted before this time; a date includes the whole day",
    )
    parser.add_argument(
        "--timezone",
        metavar="ZONE",
        type=zone,
        default=UTC,
        help="read and show times in this zone, such as Europe/Berlin (default UTC)",
    )


def read_range(
    options: argparse.Namespace, until: datetime | None = None
) -> tuple[datetime | None, datetime | None]:
    """Return the range: from, inclusive, and until, exclusive; `until` is the default end.

    Raises `CommandError` for an empty range.
    """
    since = options.since and _start(options.since, options.timezone)
    if options.until:
        until = _end(options.until, options.timezone)
    if since and until and since >= until:
        raise CommandError("--since must be before --until.")
    return since, until


def when(text: str) -> When:
    """Parse a time ago (12h), a date or a time; raises `ArgumentTypeError`."""
    ago = _AGO.fullmatch(text)
    if ago:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(
        "use a time ago (30m, 12h, 7d), or a date or time (2026-11-22T10:00Z)"
    )


def zone(name: str) -> tzinfo:
    """Parse the name of a time zone; raises `ArgumentTypeError`."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # a folder, an invalid path, or unknown
        raise argparse.ArgumentTypeError(
            f"{name!r} is not a time zone known on this machine; use one such as Europe/Berlin"
        ) from None


def time_text(moment: datetime, zone: tzinfo) -> str:
    """Format a moment as local time, with the offset only in an hour that the clocks repeat."""
    try:
        moment = moment.astimezone(zone)
    except OverflowError:  # within a day of Python's first or last
        moment = moment.astimezone(UTC)
    is_repeated = moment.utcoffset() != moment.replace(fold=1 - moment.fold).utcoffset()
    return (moment if is_repeated else moment.replace(tzinfo=None)).isoformat(" ", "seconds")


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
    """Convert to UTC; within hours of Python's first and last moment, only the zone is replaced."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment.replace(tzinfo=UTC)
