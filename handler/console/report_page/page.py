"""The report's page: one file that needs no server or network.

Only its own script can run: the content security policy allows it by its digest. Users' text is
escaped by the template; the script treats it as data and inserts it as text only.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from handler.console.moments import time_text
from handler.console.report_page.chart import day_text, draw
from handler.console.report_page.figures import Figures, day_of, ranked
from handler.console.report_page.portal_facts import PortalFacts
from handler.console.report_page.rows import Rows, notes

_MAX_RANKED: Final = 100
"""Rows in the tables of lines and employees; the figures count all of them."""

_DASH: Final = "\N{EN DASH}"  # for unknown values


@dataclass(frozen=True, kw_only=True)
class Report:
    """The contents of a report; `since` is inclusive, `until` exclusive."""

    figures: Figures
    rows: Rows
    portals: Sequence[PortalFacts]
    since: datetime
    until: datetime
    made_at: datetime
    filters: Sequence[str]


def render(report: Report) -> Iterator[str]:
    """Return the page in pieces."""
    figures, zone = report.figures, report.figures.zone
    first = day_of(report.since, zone)
    last = day_of(report.until - timedelta.resolution, zone)
    busiest = max(figures.days.items(), key=lambda item: (item[1].total, item[0]), default=None)
    style, script = _resource("page.css"), _resource("page.js")
    environment = Environment(
        loader=PackageLoader("handler.console", "report_page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"number": "{:,}".format, "day": day_text, "dash": _dash}
    return environment.get_template("page.html").generate(
        report=report,
        figures=figures,
        rows=report.rows,
        data=map(Markup, report.rows.data()),
        chart=draw(figures.days, first, last),
        busiest=busiest,
        lines=ranked(figures.lines)[:_MAX_RANKED],
        employees=ranked(figures.employees)[:_MAX_RANKED],
        has_portals=len(figures.portals) > 1,
        range=_range(report, zone),
        zone=str(zone),
        time=lambda moment: time_text(moment, zone),
        notes=lambda one: notes(one, zone),
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - the same
        policy=_policy(style, script),
    )


def _range(report: Report, zone: tzinfo) -> str:
    """Format whole days as days, and anything else to the minute."""
    since, until = time_text(report.since, zone), time_text(report.until, zone)
    if since[11:19] == until[11:19] == "00:00:00":
        first, last = report.since, report.until - timedelta.resolution
        since, until = (_date(day_of(moment, zone)) for moment in (first, last))
        return since if since == until else f"{since} to {until}"
    return f"{since[:16]} to {until[:16]}"


def _date(day: date) -> str:
    return f"{day.day} {day:%B} {day.year}"


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _dash(value: object) -> object:
    return _DASH if value in (None, "") else value
