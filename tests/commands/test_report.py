"""`python -m handler report`; the page itself is tested in a browser."""

import json
import os
import re
import stat
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.commands.shell import MOMENT, Shell
from tests.doubles.function import ROOT
from tests.samples import HERE


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Return the path for reports."""
    return tmp_path / "report.html"


def keep(shell: Shell, name: str, member_id: str = "M", **fields: Any) -> None:  # noqa: ANN401
    """Store a deletion."""
    record = {
        "origin": "portal",
        "connector": "whatsapp",
        "line_id": 7,
        "event_at": MOMENT,
        "recorded_at": MOMENT,
    }
    shell.write(f"portals/{member_id}/deletions/{name}", **record | fields)


def make(shell: Shell, page: Path, *flags: str) -> str:
    """Create a report since the beginning of that month, and return its page."""
    code, out, _ = shell("report", "--since", "2026-03-01", "--output", str(page), *flags)
    assert code == 0
    assert out.startswith(f"{page}: ")
    return page.read_text()


def data(html: str) -> Any:  # noqa: ANN401
    """Return the data for the page's script."""
    return json.loads(html.partition('id="data">')[2].partition("</script>")[0])


def test_report_is_readable_only_by_its_owner(shell: Shell, page: Path) -> None:
    """It contains what customers wrote; the owner decides who else may see it."""
    shell.write("portals/M", active=True, domain="x.bitrix24.com", drained_at=MOMENT)
    keep(shell, "1")
    keep(shell, "2", origin="customer")
    page.write_text("an older one")

    code, out, err = shell("report", "--since", "2026-03-01", "--output", str(page))

    assert (0, f"{page}: 2 deletions since 2026-03-01.\n", "") == (code, out, err)
    assert stat.S_IRUSR | stat.S_IWUSR == stat.S_IMODE(page.stat().st_mode)
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert [page.name, "store.sqlite3"] == sorted(one.name for one in page.parent.iterdir())


def test_default_range_is_the_last_thirty_days(shell: Shell, page: Path) -> None:
    """Until now."""
    shell.write("portals/M", active=True)
    now = datetime.now(UTC)
    for days in (1, 29, 31):
        keep(shell, str(days), event_at=now - timedelta(days=days))

    code, out, _ = shell("report", "--output", str(page))

    since = f"{now - timedelta(days=30):%Y-%m-%d}"
    assert (0, f"{page}: 2 deletions since {since}.\n") == (code, out)
    assert f"{since} " in page.read_text()


def test_record_that_arrives_too_late_is_reported(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, page: Path
) -> None:
    """With what to do; the day is that of the time zone."""
    shell.write("portals/M", active=True)
    keep(shell, "1")
    make_folder = tempfile.TemporaryDirectory

    def arrive(**options: Any) -> Any:  # noqa: ANN401
        keep(shell, "2")  # between reading the records and counting them
        return make_folder(**options)

    monkeypatch.setattr("tempfile.TemporaryDirectory", arrive)

    told = "1 more record is not shown: make the report again.\n"
    done = (0, f"{page}: 1 deletion since 2026-03-01.\n", told)
    since = ("--since=2026-03-01T20:00", "--timezone=America/New_York")
    assert done == shell("report", *since, "--output", str(page))


def test_report_names_its_selection(shell: Shell, page: Path) -> None:
    """Days for whole days, otherwise times, with the time zone."""
    shell.write("portals/M", active=True)
    keep(shell, "1")

    html = make(
        shell,
        page,
        "--until=2026-03-31",
        "--timezone=Europe/Berlin",
        "--by=staff",
        "--connector=whatsapp",
        "--portal=M",
    )
    day = make(shell, page, "--since=2026-03-17", "--until=2026-03-17")
    hours = make(shell, page, "--until=2026-03-17T15:30")

    assert "1 March 2026 to 31 March 2026, times in Europe/Berlin" in html
    assert "<bdi>portal M</bdi>, <bdi>connector whatsapp</bdi>, <bdi>deleted by staff</bdi>" in html
    assert '<ol class="days" aria-hidden="true"><li>17 Mar</li></ol>' in day
    assert '<th scope="col">Portal</th>' not in day
    assert " of <bdi>M</bdi>,\n17 March 2026, times in UTC" in day
    assert "2026-03-01 00:00 to 2026-03-17 15:30" in hours


def test_a_whole_day_may_start_with_a_repeated_hour(shell: Shell, page: Path) -> None:
    """In Havana, 1 November 2026 has midnight twice; both deletions belong to it."""
    shell.write("portals/M", active=True)
    midnight = datetime(2026, 11, 1, 4, tzinfo=UTC)
    keep(shell, "1", event_at=midnight)
    keep(shell, "2", event_at=midnight + timedelta(hours=1))

    html = make(
        shell, page, "--since=2026-11-01", "--until=2026-11-01", "--timezone=America/Havana"
    )

    assert "1 November 2026, times in America/Havana" in html
    before = make(shell, page, "--until=2026-10-31", "--timezone=America/Havana")
    assert "1 March 2026 to 31 October 2026, times in America/Havana" in before
    assert ["2026-11-01 00:00:00-05:00", "2026-11-01 00:00:00-04:00"] == [
        row[0] for row in data(html)["rows"]
    ]


def test_empty_report_says_so(shell: Shell, page: Path) -> None:
    """And so does the command, with a reason."""
    shell.write("portals/M", active=True)

    times = ("--since=2026-03-01", "--until=2026-03-31")
    code, out, err = shell("report", *times, "--output", str(page))

    told = (
        "No records match --since 2026-03-01 00:00:00 UTC, --until 2026-04-01 00:00:00 UTC:"
        " try other values.\n"
    )
    assert (0, f"{page}: 0 deletions since 2026-03-01.\n", told) == (code, out, err)
    assert "<dd>0</dd>" in page.read_text()
    assert "<script" not in page.read_text()


def test_report_without_portals_says_so(shell: Shell, page: Path) -> None:
    """In its box."""
    assert "No portals are known, so nothing can have been recorded." in make(shell, page)


def test_a_file_that_cannot_be_written_is_an_error(shell: Shell, page: Path) -> None:
    """And no temporary file is left."""
    missing = page.parent / "missing" / "report.html"
    shell.write("portals/M", active=True)
    page.mkdir()

    pipe = page.parent / "pipe"  # like a device, which an administrator could replace
    os.mkfifo(pipe)

    for path, reason in (
        (missing, "No such file or directory"),
        (page, "it is not a file"),
        (pipe, "it is not a file"),
    ):
        told = f"{path} cannot be written: {reason}\n"
        assert (1, "", told) == shell("report", "--output", str(path))
    left = sorted(one.name for one in page.parent.iterdir())
    assert ["pipe", page.name, "store.sqlite3"] == left
    assert pipe.is_fifo()


def test_output_is_required(shell: Shell) -> None:
    """A page on a terminal is useless."""
    told = "python -m handler report: error: the following arguments are required: --output"

    assert told == shell.usage_error("report")


def test_a_portal_whose_document_is_gone_still_has_its_records(shell: Shell, page: Path) -> None:
    """They are listed by member_id."""
    keep(shell, "1", domain="event.example")

    html = make(shell, page, "--portal=M")

    assert "<li>This portal is no longer known: nothing new is recorded.</li>" in html
    assert [["event.example", ""]] == data(html)["portals"]


def test_events_in_quarantine_are_counted(shell: Shell, page: Path) -> None:
    """One or several; earlier ones belong to another time."""
    shell.write("portals/M", active=True)
    for name, received in (("1", MOMENT), ("2", MOMENT - timedelta(days=60))):
        shell.write(f"portals/M/quarantine/{name}", received_at=received)

    assert "1 event has invalid data and is in quarantine" in make(shell, page)


def test_the_whole_page(shell: Shell, page: Path) -> None:
    """Two portals and all there is to say about them, in a zone that is neither UTC nor local."""
    first = datetime(2026, 3, 2, 2, tzinfo=UTC)
    second, third = first + timedelta(hours=18), first + timedelta(hours=42)
    shell.write(
        "portals/M",
        active=True,
        domain="m.example",
        installed_at=second,
        problem="Choose <Reinstall>.",
        problem_since=second,
        queue_left={"rows": "more than 49", "at": second},
        drained_at=third,
    )
    shell.write("portals/N", active=False, problem="P")
    for name in ("1", "2"):
        shell.write(f"portals/M/quarantine/{name}", received_at=second)
    keep(
        shell,
        "1",
        event_at=first,
        connector="WhatsApp",
        user_id=27,
        im_chat_id=1807,
        chat_id="C",
        message_id="A",
        text="<Ω & 5>\ud800",
        author_id=27,
        sent_at=first,
        edited_at=first + timedelta(minutes=1),
        text_cut=True,
        text_outdated=True,
        files=["a.pdf", "b.png"],
    )
    keep(shell, "2", event_at=first + timedelta(minutes=10), user_id=14)
    customer: dict[str, Any] = {"origin": "customer", "user_id": 5}
    keep(shell, "3", event_at=first + timedelta(minutes=20), connector="", line_id=None, **customer)
    keep(shell, "4", event_at=second)
    keep(shell, "5", event_at=second + timedelta(minutes=1), text="", sent_at=first, **customer)
    keep(shell, "6", event_at=second + timedelta(minutes=2), **customer)
    keep(shell, "7", "N", event_at="yesterday", recorded_at=third, user_id=5)

    zone = "--timezone=America/New_York"
    html = make(shell, page, "--since=2026-03-01T20:00", "--until=2026-03-03", zone)

    for name in ("page.css", "page.js"):
        html = html.replace((ROOT / "handler/console/report_page" / name).read_text(), name)
    html = re.sub(r"sha256-[^&]+", "sha256-...", html)
    html = re.sub("(?<=Generated on <time>)[^<]+", "...", html)
    assert (HERE / "report.html").read_text() == f"{html}\n"
