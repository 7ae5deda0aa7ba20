"""The bars and the grid of the chart."""

from datetime import date, timedelta

import pytest

from handler.console.report_page.chart import draw
from handler.console.report_page.figures import Tally

MARCH = date(2026, 3, 1)


@pytest.mark.parametrize(
    ("most", "grid"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (2, [0, 1, 2]),
        (3, [0, 1, 2, 3]),
        (5, [0, 1, 2, 3, 4, 5]),
        (6, [0, 2, 4, 6]),
        (7, [0, 2, 4, 6, 8]),
        (10, [0, 2, 4, 6, 8, 10]),
        (11, [0, 5, 10, 15, 20]),
        (41, [0, 10, 20, 30, 40, 50]),
        (999, [0, 200, 400, 600, 800, 1000]),
        (1_500, [0, 500, 1000, 1500, 2000]),
    ],
)
def test_the_grid_has_whole_numbers_that_are_easy_to_read(most: int, grid: list[int]) -> None:
    """The top is the first round number that is not below the highest bar."""
    chart = draw({MARCH: Tally(staff=most)}, MARCH, MARCH)

    assert grid == [number for _, number in chart.grid]
    assert (0, 100) == (chart.grid[0][0], chart.grid[-1][0])


def test_each_day_has_a_bar_even_without_a_deletion() -> None:
    """So that gaps are visible; staff below, customers on top."""
    chart = draw({date(2026, 3, 2): Tally(3, 1)}, MARCH, date(2026, 3, 3))

    assert [0, 4, 0] == [bar.tally.total for bar in chart.bars]
    bar = chart.bars[1]
    assert ("Monday, 2 March 2026", 75, 25) == (bar.label, bar.staff_height, bar.customers_height)
    assert (30, ["1 Mar", "2 Mar", "3 Mar"]) == (chart.width, chart.labels)


def test_years_are_shown_by_month() -> None:
    """Starting with the first deletion; daily bars would be thinner than a line."""
    days = {
        date(2024, 11, 30): Tally(1),
        date(2024, 11, 3): Tally(0, 1),
        date(2024, 11, 2): Tally(0, 1),
        date(2025, 2, 1): Tally(2),
    }

    chart = draw(days, date(1, 1, 1), date(2025, 3, 9))

    units = [draw({}, MARCH, MARCH + timedelta(rest)).unit for rest in (399, 400)]
    assert ["day", "month", "month"] == [*units, chart.unit]
    assert [
        ("November 2024", 3),
        ("December 2024", 0),
        ("January 2025", 0),
        ("February 2025", 2),
        ("March 2025", 0),
    ] == [(bar.label, bar.tally.total) for bar in chart.bars]


def test_years_without_a_deletion_are_one_empty_month() -> None:
    """The last one."""
    (bar,) = draw({}, date(2020, 1, 1), date(2026, 3, 9)).bars

    assert ("March 2026", 0) == (bar.label, bar.tally.total)
