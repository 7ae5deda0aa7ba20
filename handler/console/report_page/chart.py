"""A bar chart of deletions per day, by staff and by customers, on a grid of whole numbers."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from handler.console.report_page.figures import Tally

# With more days, bars would be thinner than a line: then each bar is a month.
_MAX_DAYS: Final = 400

HEIGHT: Final = 100
"""The chart's height in its own units; a bar's slot is 10 wide."""

SLOT: Final = 10
_BAR: Final = 7.2

# Round tops for the grid, also times ten, a hundred, ..., each with its number of steps.
_TOPS: Final = ((2, 4), (3, 3), (4, 4), (5, 5), (6, 3), (8, 4), (10, 5))


@dataclass(frozen=True)
class Bar:
    """A day or a month; staff at the bottom, customers on top."""

    label: str
    short: str
    tally: Tally
    x: float
    staff_height: float
    customers_height: float


@dataclass(frozen=True)
class Chart:
    """The bars in order, and the lines of the grid as (height, number)."""

    unit: str
    bars: list[Bar]
    grid: list[tuple[float, int]]
    bar_width: float = _BAR

    @property
    def width(self) -> int:
        """The chart's width in its own units."""
        return SLOT * len(self.bars)

    @property
    def labels(self) -> list[str]:
        """Return the labels below the chart: the first, the last, and some in between."""
        last = len(self.bars) - 1
        places = sorted({round(last * part / 4) for part in range(5)})
        return [self.bars[place].short for place in places]


def draw(days: Mapping[date, Tally], first: date, last: date) -> Chart:
    """Return the chart for the days from `first` to `last`; some may have no deletions."""
    is_by_day = (last - first).days < _MAX_DAYS
    bars = _by_day(days, first, last) if is_by_day else _by_month(days, last)
    top, steps = _top(max(tally.total for _, _, tally in bars))
    scale = HEIGHT / top
    return Chart(
        unit="day" if is_by_day else "month",
        bars=[
            Bar(
                label=label,
                short=short,
                tally=tally,
                x=round(SLOT * place + (SLOT - _BAR) / 2, 1),
                staff_height=round(tally.staff * scale, 2),
                customers_height=round(tally.customers * scale, 2),
            )
            for place, (label, short, tally) in enumerate(bars)
        ],
        grid=[(HEIGHT * step / steps, top * step // steps) for step in range(steps + 1)],
    )


def day_text(day: date) -> str:
    """Format a day with its weekday."""
    return f"{day:%A}, {day.day} {day:%B} {day.year}"


def _by_day(days: Mapping[date, Tally], first: date, last: date) -> list[tuple[str, str, Tally]]:
    return [
        (day_text(day), f"{day.day} {day:%b}", days.get(day, Tally())) for day in _days(first, last)
    ]


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _by_month(days: Mapping[date, Tally], last: date) -> list[tuple[str, str, Tally]]:
    """Start at the first month with a deletion, to skip empty centuries before it."""
    months: dict[tuple[int, int], Tally] = defaultdict(Tally)
    for day, tally in days.items():
        months[day.year, day.month].staff += tally.staff
        months[day.year, day.month].customers += tally.customers
    month = min(months, default=(last.year, last.month))
    bars = []
    while month <= (last.year, last.month):
        name = date(*month, 1)
        bars.append((f"{name:%B} {name.year}", f"{name:%b} {name.year}", months[month]))
        month = (month[0] + month[1] // 12, month[1] % 12 + 1)
    return bars


def _top(number: int) -> tuple[int, int]:
    """Return the number at the top of the grid, and its number of steps."""
    if number in (0, 1, 2):  # each step is at least 1
        return max(1, number), max(1, number)
    magnitude = 10 ** (len(str(number - 1)) - 1)
    return next((top * magnitude, steps) for top, steps in _TOPS if number <= top * magnitude)
