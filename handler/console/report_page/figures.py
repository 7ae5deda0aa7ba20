"""A report's figures: by side, by day, by connector and line, by employee."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from typing import TypeVar

from handler.console.moments import time_text
from handler.console.record_view import STAFF, View

K = TypeVar("K")


@dataclass
class Tally:
    """How many messages each side deleted."""

    staff: int = 0
    customers: int = 0

    @property
    def total(self) -> int:
        """By both sides together."""
        return self.staff + self.customers

    def add(self, one: View) -> None:
        """Count a record."""
        if one.deleted_by == STAFF:
            self.staff += 1
        else:
            self.customers += 1


@dataclass(frozen=True)
class Line:
    """An open line of a portal, with the connector that its messages came through."""

    portal: str
    connector: str
    line_id: int | None


@dataclass(frozen=True)
class Employee:
    """Who deleted inside Bitrix24; a robot or a workflow has no user id."""

    portal: str
    user_id: int | None
    link: str | None


@dataclass
class Figures:
    """The figures of all records that were added; days are in a time zone."""

    zone: tzinfo
    all: Tally = field(default_factory=Tally)
    days: dict[date, Tally] = field(default_factory=lambda: defaultdict(Tally))
    lines: dict[Line, Tally] = field(default_factory=lambda: defaultdict(Tally))
    employees: dict[Employee, Tally] = field(default_factory=lambda: defaultdict(Tally))
    portals: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    with_text: int = 0
    untimed: int = 0

    def take(self, one: View) -> None:
        """Add a record to all figures."""
        day = day_of(one.deleted_at, self.zone)
        line = Line(one.portal, one.connector.lower(), one.line_id)
        tallies = [self.all, self.days[day], self.lines[line], self.portals[one.portal]]
        if one.deleted_by == STAFF:
            tallies.append(self.employees[Employee(one.portal, one.user_id, one.employee_link)])
        for tally in tallies:
            tally.add(one)
        self.with_text += one.text is not None
        self.untimed += one.is_untimed


def ranked(tallies: dict[K, Tally]) -> list[tuple[K, Tally]]:
    """Return the largest first; equal ones in a stable order."""
    return sorted(tallies.items(), key=lambda item: (-item[1].total, repr(item[0])))


def day_of(moment: datetime, zone: tzinfo) -> date:
    """Return the day in a time zone."""
    return date.fromisoformat(time_text(moment, zone)[:10])
