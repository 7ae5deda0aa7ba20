"""Times on the command line, and what they mean in a time zone."""

import argparse
from argparse import Namespace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from handler.console import moments
from handler.console.printing import CommandError

BERLIN = ZoneInfo("Europe/Berlin")


def read(
    since: str | None = None, until: str | None = None, zone: str = "UTC"
) -> tuple[datetime | None, datetime | None]:
    """Parse a range from the command line."""
    parser = argparse.ArgumentParser()
    moments.add_range_options(parser)
    flags = {"--since": since, "--until": until, "--timezone": zone}
    given = [f"{name}={value}" for name, value in flags.items() if value]
    return moments.read_range(parser.parse_args(given))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T10:00", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00+02:00", datetime(2026, 11, 22, 8, tzinfo=UTC)),
        ("0001-01-01T00:00+14:00", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_utc_unless_it_says_otherwise(text: str, moment: datetime) -> None:
    """As in the table and in Firestore."""
    assert repr((moment, None)) == repr(read(since=text))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-29", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("2026-03-30", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("2026-03-30T10:00", datetime(2026, 3, 30, 8, tzinfo=UTC)),
        ("2026-03-30T10:00Z", datetime(2026, 3, 30, 10, tzinfo=UTC)),
    ],
)
def test_time_zone_decides_when_a_day_begins(text: str, moment: datetime) -> None:
    """Including a day of 23 hours; a moment with its own zone keeps it."""
    assert (moment, None) == read(since=text, zone="Europe/Berlin")


def test_time_zone_decides_when_a_range_ends() -> None:
    """Whatever this machine's own time zone."""
    moment = datetime(2026, 3, 30, 8, tzinfo=UTC)

    assert (None, moment) == read(until="2026-03-30T10:00", zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-03", datetime(2026, 3, 4, tzinfo=UTC)),
        ("2026-03-03T10:00", datetime(2026, 3, 3, 10, tzinfo=UTC)),
        ("9999-12-31", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_until_includes_the_whole_day(text: str, moment: datetime) -> None:
    """But excludes a moment that it names."""
    assert (None, moment) == read(until=text)


def test_a_single_day_can_be_selected() -> None:
    """Such as 3 March."""
    day = (datetime(2026, 3, 3, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC))

    assert day == read(since="2026-03-03", until="2026-03-03")


@pytest.mark.parametrize(("since", "until"), [("2026-03-04", "2026-03-03"), ("1h", "2h")])
def test_empty_range_is_an_error(since: str, until: str) -> None:
    """Instead of finding nothing."""
    with pytest.raises(CommandError, match=r"^--since must be before --until\.$"):
        read(since=since, until=until)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
    ],
)
def test_durations_are_counted_back_from_now(text: str, ago: timedelta) -> None:
    """In seconds, minutes, hours or days."""
    before = datetime.now(UTC)
    moment = moments.when(text)

    assert isinstance(moment, datetime)
    assert before - ago <= moment <= datetime.now(UTC) - ago


@pytest.mark.parametrize("name", ["Europe", "Mars/Olympus", "../passwd", "/etc/passwd", "", "\0"])
def test_unknown_zone_is_an_error(name: str) -> None:
    """For any reason; the message names a valid one."""
    with pytest.raises(argparse.ArgumentTypeError, match="use one such as Europe/Berlin"):
        moments.zone(name)


@pytest.mark.parametrize("name", ["UTC", "utc", "Z"])
def test_utc_needs_no_time_zone_database(name: str) -> None:
    """A minimal machine may have none."""
    assert UTC is moments.zone(name)
    assert "UTC" == str(moments.zone(name))


def test_moments_are_shown_in_local_time() -> None:
    """With a four-digit year, so that texts sort; if the zone cannot show it, in UTC."""
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)

    assert "2026-07-01 14:00:00" == moments.time_text(noon, BERLIN)
    assert "0033-07-01 12:00:00" == moments.time_text(noon.replace(year=33), UTC)
    last = datetime.max.replace(tzinfo=UTC)
    assert "9999-12-31 23:59:59" == moments.time_text(last, BERLIN)


def test_moments_of_a_repeated_hour_show_their_offset() -> None:
    """On 25 October 2026, Berlin's clocks show 2:00 to 3:00 twice."""
    first = datetime(2026, 10, 25, 0, tzinfo=UTC)

    assert [
        "2026-10-25 01:59:59",
        "2026-10-25 02:00:00+02:00",
        "2026-10-25 02:59:59+02:00",
        "2026-10-25 02:00:00+01:00",
        "2026-10-25 02:59:59+01:00",
        "2026-10-25 03:00:00",
    ] == [
        moments.time_text(first + timedelta(seconds=seconds), BERLIN)
        for seconds in (-1, 0, 3599, 3600, 7199, 7200)
    ]


def test_a_range_without_ends_is_everything() -> None:
    """By default, nothing is excluded."""
    options = Namespace(since=None, until=date(2026, 1, 1), timezone=UTC)

    assert (None, None) == read()
    assert (None, datetime(2026, 1, 2, tzinfo=UTC)) == moments.read_range(options)
