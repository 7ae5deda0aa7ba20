"""How a record is shown, and which links it may have."""

from datetime import UTC, datetime

import pytest

from handler.console.record_view import Domains, view
from handler.stores.interface import Document, Fields
from tests.doubles.memory_store import MemoryStore

FIELDS: Fields = {"origin": "portal", "user_id": 27, "im_chat_id": 1807, "domain": "event.example"}


@pytest.mark.parametrize(
    "host", ["x.bitrix24.com", "crm.example.com:8443", "xn--80akhbyknj4f.example", "localhost"]
)
def test_links_use_a_confirmed_domain(host: str) -> None:
    """A self-hosted portal may have a port."""
    seen = view(Document("portals/M/deletions/1", FIELDS), lambda _: host)

    assert f"https://{host}/online/?IM_DIALOG=chat1807" == seen.chat_link
    assert f"https://{host}/company/personal/user/27/" == seen.employee_link
    assert host == seen.portal


@pytest.mark.parametrize(
    "domain",
    [
        "x.example/path",
        "x.example?",
        "user@x.example",
        "x.example:port",
        "javascript:alert(1)",
        "x y",
        ".x",
        "x\n",
        "",
        "a" * 300,
    ],
)
def test_invalid_domain_gets_no_link(domain: str) -> None:
    """A document may have been edited by hand."""
    seen = view(Document("portals/M/deletions/1", FIELDS), lambda _: domain)

    assert (None, None) == (seen.chat_link, seen.employee_link)


def test_without_a_confirmed_domain_the_events_own_is_shown_and_not_linked() -> None:
    """Only the token proves an event, and it says nothing about the domain."""
    record = Document("portals/M/deletions/1", FIELDS)
    unnamed = Document("portals/M/deletions/1", {**FIELDS, "domain": ""})

    seen = view(record, lambda _: None)

    assert ("event.example", None, None) == (seen.portal, seen.chat_link, seen.employee_link)
    assert "M" == view(unnamed, lambda _: None).portal


def test_a_customer_is_not_an_employee() -> None:
    """Their number is the connector's, and would open someone else's page."""
    record = Document("portals/M/deletions/1", {**FIELDS, "origin": "customer"})

    seen = view(record, lambda _: "x.example")

    assert ("customer", 27, None) == (seen.deleted_by, seen.user_id, seen.employee_link)


def test_a_record_may_lack_everything() -> None:
    """Or have other types: people edit documents, too."""
    times: Fields = {"event_at": "today", "sent_at": "today"}
    odd: Fields = {"user_id": "27", "line_id": [], "files": "a.pdf", "text": 5, **times}
    seen = view(Document("portals/M/deletions/1", odd), lambda _: "x.example")

    assert (None, None, None) == (seen.user_id, seen.line_id, seen.sent_at)
    assert ((), "5") == (seen.files, seen.text)
    assert (True, datetime.min.replace(tzinfo=UTC)) == (seen.is_untimed, seen.deleted_at)


def test_portals_domain_is_read_once() -> None:
    """For any number of records; a portal without a document has no domain."""
    store = MemoryStore()
    store.write("portals/M", {"domain": "x.example"})
    domains = Domains(store)

    assert ("x.example", None) == (domains("M"), domains("N"))
    store.documents.clear()
    assert "x.example" == domains("M")
