"""The report in Chromium: its contents, its use, and that nothing in it runs."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document, Fields
from handler.stores.sqlite import LocalStore
from tests.browser import month
from tests.browser.chromium import Chromium
from tests.browser.conftest import make_report
from tests.doubles.function import ROOT

AXE: Final = ROOT / "tests/browser/node_modules/axe-core/axe.min.js"
TAB, ENTER = 9, 13

DELETIONS = list(month.deletions())


def by(origin: str) -> list[Document]:
    """Return the made-up records of one side."""
    return [record for record in DELETIONS if record.fields["origin"] == origin]


def texts(browser: Chromium, selector: str) -> list[str]:
    """Return the texts of all elements that match a selector, as laid out."""
    found: list[str] = browser.run(
        f"[...document.querySelectorAll({selector!r})].map(one => one.textContent.trim())"
    )
    return found


def cells(browser: Chromium, column: int) -> list[str]:
    """Return the cells of a column of the table."""
    return texts(browser, f"#table tbody td:nth-child({column})")


def search(browser: Chromium, text: str, side: str = "") -> str:
    """Search as a reader does, and return the status text."""
    browser.run(
        f"""
        document.getElementById("search").value = {text!r};
        document.getElementById("side").value = {side!r};
        document.getElementById("controls").requestSubmit();
        """
    )
    return said(browser)


def said(browser: Chromium) -> str:
    """Return the table's status text, which is read aloud."""
    return texts(browser, "#status")[0]


def click(browser: Chromium, selector: str) -> None:
    """Click an element."""
    browser.run(f"document.querySelector({selector!r}).click()")


class TestFigures:
    """The figures, compared with their records."""

    def test_the_figure_line(self, browser: Chromium, a_month: Path) -> None:
        """How many, by whom, the busiest day, employee and line."""
        browser.open(a_month)
        days = Counter(str(record.fields["event_at"])[:10] for record in DELETIONS)
        employees = Counter(record.fields.get("user_id") for record in by("portal"))
        lines = Counter((one.fields["connector"], one.fields["line_id"]) for one in DELETIONS)
        ((day, in_a_day),) = days.most_common(1)
        ((employee, by_one),) = employees.most_common(1)
        (((connector, line), in_a_line),) = lines.most_common(1)

        assert day == "2026-03-17"
        assert texts(browser, ".figures dd") == [
            str(len(DELETIONS)),
            str(len(by("portal"))),
            str(len(by("customer"))),
            f"{in_a_day} Tuesday, 17 March 2026",
            f"{by_one} employee {employee}",
            f"{in_a_line} {connector}, line {line}",
        ]

    def test_the_chart_has_each_day_by_staff_and_by_customers(
        self, browser: Chromium, a_month: Path
    ) -> None:
        """With bars as high as their numbers, and as a table for people who cannot see them."""
        browser.open(a_month)
        counted = {
            origin: Counter(record.fields["event_at"].day for record in by(origin))  # type: ignore[union-attr] # it is a time
            for origin in ("portal", "customer")
        }
        expected = [
            (counted["portal"][day], counted["customer"][day]) for day in range(1, month.DAYS + 1)
        ]

        drawn = browser.run(
            """[...document.querySelectorAll(".chart g")].map(bar => ["staff", "customers"].map(
                side => Math.round(40 * (bar.querySelector(`rect.${side}`)?.getBBox().height ?? 0))
            ))"""
        )
        in_figures = texts(browser, "details .counts td")

        assert "40" == texts(browser, ".scale li")[0]
        assert expected == [(staff // 100, customers // 100) for staff, customers in drawn]
        numbers = [list(map(int, in_figures[start : start + 3])) for start in range(0, 93, 3)]
        assert [[staff, other, staff + other] for staff, other in expected] == numbers

    def test_lines_and_employees(self, browser: Chromium, a_month: Path) -> None:
        """Each with its number, the largest first."""
        browser.open(a_month)
        lines = Counter(record.fields["line_id"] for record in DELETIONS)
        employees = Counter(record.fields.get("user_id") for record in by("portal"))

        found = texts(browser, "section[aria-labelledby=lines] td:nth-child(2)")
        totals = texts(browser, "section[aria-labelledby=lines] td:last-child")
        assert [(str(line), str(count)) for line, count in lines.most_common()] == [
            *zip(found, totals, strict=True)
        ]
        totals = texts(browser, "section[aria-labelledby=employees] td")
        assert [str(count) for _, count in employees.most_common()] == totals

    def test_what_may_be_missing(self, browser: Chromium, a_month: Path) -> None:
        """Quarantined events, the portal's problem, its last drain, texts that were not kept."""
        browser.open(a_month)
        without = sum("text" not in record.fields for record in DELETIONS)

        box = " ".join(texts(browser, ".unknown li"))

        assert "3 events have invalid data and are in quarantine" in box
        assert "since 2026-03-30 06:00 UTC): The queue cannot be read" in box
        assert "last empty on 2026-03-30 05:40 UTC" in box
        assert f"For {without} of the messages, the text is not available" in box


class TestTable:
    """Searching, sorting and paging."""

    def test_newest_rows_come_first(self, browser: Chromium, a_month: Path) -> None:
        """A hundred per page."""
        browser.open(a_month)
        newest_first = [str(record.fields["event_at"])[:19] for record in reversed(DELETIONS)]

        assert said(browser) == f"1 to 100 of {len(DELETIONS)}"
        assert newest_first[:100] == cells(browser, 1)
        click(browser, "#last")
        assert said(browser) == f"301 to {len(DELETIONS)} of {len(DELETIONS)}"
        assert newest_first[300:] == cells(browser, 1)
        click(browser, "#previous")
        click(browser, "#previous")
        click(browser, "#next")
        assert newest_first[200:300] == cells(browser, 1)
        click(browser, "#first")
        assert newest_first[:100] == cells(browser, 1)

    def test_search_finds_all_words_in_any_case(self, browser: Chromium, a_month: Path) -> None:
        """In every column, including texts in any script."""
        browser.open(a_month)
        russian = [one for one in DELETIONS if "Здравствуйте" in str(one.fields.get("text"))]
        on_whatsapp = [one for one in russian if one.fields["connector"] == "whatsapp"]

        told = search(browser, "ЗДРАВСТВУЙТЕ")
        assert told == f"1 to {len(russian)} of {len(russian)} found, of {len(DELETIONS)}"
        told = search(browser, " WhatsApp   здравствуйте ")
        assert told == f"1 to {len(on_whatsapp)} of {len(on_whatsapp)} found, of {len(DELETIONS)}"
        told = search(browser, "", side="1")
        assert told.endswith(f" of {len(by('customer'))} found, of {len(DELETIONS)}")
        assert (
            search(browser, "nobody wrote this") == f"None of {len(DELETIONS)} deletions matches."
        )
        assert [] == cells(browser, 1)
        assert search(browser, "") == f"1 to 100 of {len(DELETIONS)}"

    def test_search_finds_a_record_by_its_id(self, browser: Chromium, a_month: Path) -> None:
        """As the log and the other formats name it; the cell of the message has it, too."""
        browser.open(a_month)
        one = DELETIONS[100]

        told = search(browser, one.name.upper())

        assert told == f"1 to 1 of 1 found, of {len(DELETIONS)}"
        assert [one.fields["message_id"]] == cells(browser, 5)
        title = "document.querySelector('#table tbody td:nth-child(5)').title"
        assert f"record {one.name}" == browser.run(title)

    def test_search_works_while_typing(self, browser: Chromium, a_month: Path) -> None:
        """Without a click; the result is announced."""
        browser.open(a_month)
        browser.run("document.getElementById('search').focus()")
        browser.call("Input.insertText", text="telegrambot")
        count = sum(one.fields["connector"] == "telegrambot" for one in DELETIONS)

        announced = browser.run(
            """new Promise(done => {
                const status = document.getElementById("status");
                const read = () => status.textContent.includes("found") && done(status.textContent);
                new MutationObserver(read).observe(status, {childList: true});
                read();
            })"""
        )

        assert announced == f"1 to {count} of {count} found, of {len(DELETIONS)}"

    def test_titles_sort_by_keyboard(self, browser: Chromium, a_month: Path) -> None:
        """In both directions, with aria-sort; numbers numerically, missing values last."""
        browser.open(a_month)
        browser.run("document.querySelector('#table thead th:nth-child(2) button').focus()")

        browser.press("Enter", ENTER)
        up = cells(browser, 2)
        assert "ascending" == browser.run("document.activeElement.parentElement.ariaSort")
        browser.press("Enter", ENTER)
        down = cells(browser, 2)
        assert "descending" == browser.run("document.activeElement.parentElement.ariaSort")
        browser.press("Tab", TAB)
        browser.press("Enter", ENTER)

        customers = min(str(record.fields["user_id"]) for record in by("customer"))
        assert up[0] == f"customer {customers}"
        assert down[:3] == ["staff 31"] * 3
        assert cells(browser, 3)[0] == "instagram, line 128"
        assert 1 == browser.run("document.querySelectorAll('[aria-sort]').length")
        click(browser, "#table thead th:nth-child(6) button")
        assert "\N{EN DASH}" not in "".join(cells(browser, 6))
        click(browser, "#last")
        assert cells(browser, 6)[-1] == "\N{EN DASH}"

    def test_links_go_to_the_chat_and_the_employee(self, browser: Chromium, a_month: Path) -> None:
        """At the portal's own domain; none for a customer's deletion."""
        browser.open(a_month)
        record = next(one for one in by("portal") if "user_id" in one.fields)
        search(browser, str(record.fields["message_id"]))

        links = browser.run(
            "[...document.querySelectorAll('#table tbody tr:first-child a')].map(one => one.href)"
        )
        search(browser, "", side="1")

        employee = f"https://{month.DOMAIN}/company/personal/user/{record.fields['user_id']}/"
        chat = f"https://{month.DOMAIN}/online/?IM_DIALOG=chat{record.fields['im_chat_id']}"
        assert [employee, chat] == links
        assert 0 == browser.run("document.querySelectorAll('#table tbody a').length")

    def test_fifty_thousand_rows_are_searched_and_sorted(
        self, browser: Chromium, tmp_path: Path
    ) -> None:
        """Only one page is in the document; further records are counted, and mentioned."""
        store = LocalStore(str(tmp_path / "store.sqlite3"))
        moment = datetime(2026, 3, 17, 12, tzinfo=UTC)
        records = [
            Document(
                f"portals/M/deletions/{number}",
                {
                    "origin": "customer",
                    "connector": "whatsapp",
                    "line_id": 1,
                    "message_id": f"{number:05}",
                    "event_at": moment + timedelta(seconds=number),
                },
            )
            for number in range(50_003)
        ]
        store.create(records, "recorded_at", Deadline(300))
        store.put(Document("portals/M", {"active": True}), Deadline(5))

        browser.open(make_report(tmp_path / "store.sqlite3", "--since=2026-03-17"))

        assert texts(browser, ".figures dd")[0] == "50,003"
        assert said(browser) == "1 to 100 of 50,000"
        told = browser.run(
            "document.querySelector('section[aria-labelledby=deletions] p').textContent"
        )
        assert told.startswith("The table shows the newest 50,000;")
        assert search(browser, "49999") == "1 to 1 of 1 found, of 50,000"
        search(browser, "")
        click(browser, "#table thead th:nth-child(5) button")
        assert cells(browser, 5)[:2] == ["00003", "00004"]
        assert 100 == browser.run("document.querySelectorAll('#table tbody tr').length")


HOSTILE: Final = (
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 2</script>",
    "<img src=x onerror='window.hit = 3'>",
    '"><svg onload="window.hit = 4">',
    "{{ 7 * 7 }}{% include 'x' %}",
    "javascript:window.hit = 5",
    "<!--<script>",
    "\u202etxt.exe\u2066",
    "\x00\x1b[2J\ufeff\u2028\u2029",
    "' onfocus='window.hit = 6' autofocus '",
    "\ud800",
)


class TestSafety:
    """Customers choose their texts and ids, which must never have any effect."""

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        """Create a report in which every field is an attack."""
        store = LocalStore(str(tmp_path / "store.sqlite3"))
        moment = datetime(2026, 3, 17, 12, tzinfo=UTC)
        for number, text in enumerate(HOSTILE):
            fields: Fields = {
                **dict.fromkeys(
                    ["origin", "connector", "chat_id", "message_id", "domain", "text", "via"], text
                ),
                "files": [text],
                "line_id": -1,
                "user_id": -1,
                "im_chat_id": -1,
                "event_at": moment + timedelta(seconds=number),
            }
            portal: Fields = {"domain": text, "active": True, "problem": text}
            store.put(Document(f"portals/{number}", portal), Deadline(5))
            store.put(Document(f"portals/{number}/deletions/1", fields), Deadline(5))
        return make_report(tmp_path / "store.sqlite3", "--since=2026-03-17")

    def test_no_text_runs(self, browser: Chromium, hostile: Path) -> None:
        """It is shown as text, in the order of the records, and causes no request."""
        browser.open(hostile)
        search(browser, "")

        assert browser.run("window.hit === undefined")
        assert [] == browser.complaints
        assert [hostile.as_uri()] == browser.requests
        assert 2 == browser.run("document.scripts.length")
        assert 0 == browser.run("document.querySelectorAll('img, iframe, object, form a').length")
        assert 0 == browser.run("document.querySelectorAll('main a').length")
        shown = browser.run(
            "[...document.querySelectorAll('#table .text p')].map(one => one.textContent)"
        )
        expected = [text.replace("\ud800", "\ufffd") for text in reversed(HOSTILE)]
        assert expected == [text.replace("\ud800", "\ufffd") for text in shown]

    def test_it_is_as_harmless_without_scripts(self, browser: Chromium, hostile: Path) -> None:
        """The template escapes the texts."""
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            browser.open(hostile)
        finally:
            browser.call("Emulation.setScriptExecutionDisabled", value=False)

        assert len(HOSTILE) == browser.run("document.querySelectorAll('#table tbody tr').length")
        assert 0 == browser.run("document.querySelectorAll('img, iframe, main a').length")
        assert texts(browser, "#table .text p")[-1] == HOSTILE[0]

    def test_policy_blocks_every_other_script(self, browser: Chromium, a_month: Path) -> None:
        """And styles, pictures, and HTML from text."""
        browser.open(a_month)

        browser.run(
            """
            const script = document.createElement("script");
            try { script.text = "window.hit = 1"; } catch { script.append("window.hit = 1"); }
            document.body.append(script);
            """
        )
        refused = browser.run(
            """(() => {
                try { document.body.innerHTML = "<b>"; } catch (error) { return error.name; }
            })()"""
        )
        answer = browser.run("fetch('https://example.com/').catch(error => error.name)")

        assert browser.run("window.hit === undefined")
        assert ("TypeError", "TypeError") == (refused, answer)
        assert [a_month.as_uri()] == browser.requests


class TestReaders:
    """In light and dark mode, on a desktop, on a phone and on paper, seen or read aloud."""

    @pytest.mark.skipif(
        not AXE.exists(), reason="axe-core is not here: npm ci --prefix tests/browser"
    )
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [1280, 390])
    def test_axe_finds_no_barrier(
        self, browser: Chromium, a_month: Path, scheme: str, width: int
    ) -> None:
        """Contrast, names, roles, order: what a program can check."""
        browser.show(width, 900, prefers_color_scheme=scheme)
        browser.open(a_month)
        browser.run("document.querySelector('details').open = true")
        browser.run(AXE.read_text())

        found: list[dict[str, Any]] = browser.run(
            "axe.run({resultTypes: ['violations']}).then(results => results.violations)"
        )

        assert [] == [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]

    @pytest.mark.parametrize("width", [320, 390, 768, 1280])
    def test_nothing_is_wider_than_the_screen(
        self, browser: Chromium, a_month: Path, width: int
    ) -> None:
        """It scrolls vertically only."""
        browser.show(width, 800, prefers_color_scheme="light")
        browser.open(a_month)

        assert width == browser.run("document.scrollingElement.scrollWidth")

    def test_paper_has_all_rows(self, browser: Chromium, a_month: Path) -> None:
        """And afterwards, the screen shows its page again."""
        browser.open(a_month)
        browser.run(
            """addEventListener("beforeprint", () => {
                window.printed = document.querySelectorAll("#table tbody tr").length;
            })"""
        )

        assert browser.paper().startswith(b"%PDF")

        assert len(DELETIONS) == browser.run("window.printed")
        assert said(browser) == f"1 to 100 of {len(DELETIONS)}"

    def test_newest_rows_are_there_without_scripts(self, browser: Chromium, a_month: Path) -> None:
        """With their links, and a sentence about the rest."""
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            browser.open(a_month)
        finally:
            browser.call("Emulation.setScriptExecutionDisabled", value=False)

        assert 250 == len(cells(browser, 1))
        assert cells(browser, 1)[0] == str(DELETIONS[-1].fields["event_at"])[:19]
        told = texts(browser, "noscript")[0]
        assert told.startswith("Without scripts, the newest 250 are shown")
        assert browser.run("document.getElementById('controls').hidden")

    def test_each_text_has_its_own_direction(self, browser: Chromium, a_month: Path) -> None:
        """Arabic from the right, next to anything."""
        browser.open(a_month)
        search(browser, "العنوان")

        directions = browser.run(
            "[...document.querySelectorAll('#table .text p')]"
            ".map(one => getComputedStyle(one).direction)"
        )

        assert {"rtl"} == set(directions)
