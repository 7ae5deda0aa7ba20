"""What people may write for a moment, and what it means in their time zone."""

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
    """Read a range as it is given on the command line."""
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
    """As the table and Firestore show it."""
    assert (moment, None) == read(since=text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-29", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("2026-03-30", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("2026-03-30T10:00", datetime(2026, 3, 30, 8, tzinfo=UTC)),
        ("2026-03-30T10:00Z", datetime(2026, 3, 30, 10, tzinfo=UTC)),
    ],
)
def test_a_time_zone_says_when_a_day_begins(text: str, moment: datetime) -> None:
    """A day of 23 hours among them; a moment that has a zone keeps it."""
    assert (moment, None) == read(since=text, zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-03", datetime(2026, 3, 4, tzinfo=UTC)),
        ("2026-03-03T10:00", datetime(2026, 3, 3, 10, tzinfo=UTC)),
        ("9999-12-31", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_until_includes_the_whole_of_a_day(text: str, moment: datetime) -> None:
    """But not the moment that it names, where it names one."""
    assert (None, moment) == read(until=text)


def test_one_day_can_be_asked_for() -> None:
    """As somebody would ask for 3 March."""
    day = (datetime(2026, 3, 3, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC))

    assert day == read(since="2026-03-03", until="2026-03-03")


@pytest.mark.parametrize(("since", "until"), [("2026-03-04", "2026-03-03"), ("1h", "2h")])
def test_a_range_that_holds_nothing_is_refused(since: str, until: str) -> None:
    """Rather than answered with nothing."""
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
def test_so_long_ago_is_counted_from_now(text: str, ago: timedelta) -> None:
    """In seconds, minutes, hours or days."""
    before = datetime.now(UTC)
    moment = moments.when(text)

    assert isinstance(moment, datetime)
    assert before - ago <= moment <= datetime.now(UTC) - ago


@pytest.mark.parametrize("name", ["Europe", "Mars/Olympus", "../passwd", "/etc/passwd", "", "\0"])
def test_a_zone_that_is_unknown_is_refused(name: str) -> None:
    """Whatever the reason; the message names one that works."""
    with pytest.raises(argparse.ArgumentTypeError, match="use one such as Europe/Berlin"):
        moments.zone(name)


@pytest.mark.parametrize("name", ["UTC", "utc", "Z"])
def test_utc_needs_no_time_zone_database(name: str) -> None:
    """A slim machine may have none."""
    assert UTC is moments.zone(name)
    assert "UTC" == moments.zone_name(moments.zone(name))


def test_a_moment_is_shown_as_a_clock_there_shows_it() -> None:
    """With four digits of the year, so that texts sort; whatever cannot be there is in UTC."""
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)

    assert "2026-07-01 14:00:00" == moments.time_text(noon, BERLIN)
    assert "0033-07-01 12:00:00" == moments.time_text(noon.replace(year=33), UTC)
    last = datetime.max.replace(tzinfo=UTC)
    assert "9999-12-31 23:59:59" == moments.time_text(last, BERLIN)


def test_a_range_without_ends_is_everything() -> None:
    """Nothing is asked for unless somebody does."""
    options = Namespace(since=None, until=date(2026, 1, 1), timezone=UTC)

    assert (None, None) == read()
    assert (None, datetime(2026, 1, 2, tzinfo=UTC)) == moments.read_range(options)
