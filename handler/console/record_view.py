"""A record as shown in the table, the spreadsheet and the report."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from handler.console.printing import store_deadline
from handler.console.record_reading import deleted_at, has_own_time
from handler.portal import member_id_in, read_portal
from handler.records.documents import RECORDED_AT
from handler.stores.interface import Document, Store

# What may be put between https:// and a path: only a domain, with a port if self-hosted.
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?", re.ASCII)

STAFF: Final = "staff"
CUSTOMER: Final = "customer"


@dataclass(frozen=True, kw_only=True)
class View:
    """One record. `deleted_by` is STAFF or CUSTOMER, `portal` a domain, or else the member_id.

    If `is_untimed`, the record has no time of its own, and `deleted_at` is when it was recorded.
    `host` and the links need the portal's confirmed domain.
    """

    id: str
    member_id: str
    portal: str
    deleted_at: datetime
    is_untimed: bool
    recorded_at: datetime | None
    deleted_by: str
    user_id: int | None
    connector: str
    line_id: int | None
    chat_id: str
    message_id: str
    im_chat_id: int | None
    im_message_id: int | None
    event: str
    via: str
    text: str | None
    text_cut: bool
    text_outdated: bool
    author_id: int | None
    sent_at: datetime | None
    edited_at: datetime | None
    files: tuple[str, ...]
    host: str | None
    chat_link: str | None
    employee_link: str | None


class Domains:
    """The domain of each portal, confirmed or entered by hand, read from the store on first use."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, str | None] = {}

    def __call__(self, member_id: str) -> str | None:
        """Return a portal's domain, if it has one."""
        if member_id not in self._known:
            portal = read_portal(self._store, member_id, store_deadline())
            self._known[member_id] = portal.domain if portal else None
        return self._known[member_id]


def view(record: Document, domain_of: Callable[[str], str | None]) -> View:
    """Return the view of a record.

    A record that was edited by hand may lack any field, or have it in a different type.
    """
    fields: Mapping[str, Any] = record.fields
    member_id = member_id_in(record.path)
    domain = domain_of(member_id)
    host = link_host(domain)
    im_chat_id, user_id = (_number(fields.get(name)) for name in ("im_chat_id", "user_id"))
    is_by_customer = fields.get("origin") == CUSTOMER
    files = fields.get("files")
    return View(
        id=record.name,
        member_id=member_id,
        portal=domain or _text(fields.get("domain")) or member_id,
        deleted_at=deleted_at(record),
        is_untimed=not has_own_time(record),
        recorded_at=_time(fields.get(RECORDED_AT)),
        deleted_by=CUSTOMER if is_by_customer else STAFF,
        user_id=user_id,
        connector=_text(fields.get("connector")),
        line_id=_number(fields.get("line_id")),
        chat_id=_text(fields.get("chat_id")),
        message_id=_text(fields.get("message_id")),
        im_chat_id=im_chat_id,
        im_message_id=_number(fields.get("im_message_id")),
        event=_text(fields.get("event")),
        via=_text(fields.get("via")),
        text=_text(fields["text"]) if "text" in fields else None,
        text_cut=fields.get("text_cut") is True,
        text_outdated=fields.get("text_outdated") is True,
        author_id=_number(fields.get("author_id")),
        sent_at=_time(fields.get("sent_at")),
        edited_at=_time(fields.get("edited_at")),
        files=tuple(map(_text, files)) if isinstance(files, list | tuple) else (),
        host=host,
        chat_link=chat_link(host, im_chat_id),
        employee_link=None if is_by_customer else employee_link(host, user_id),
    )


def link_host(domain: str | None) -> str | None:
    """Return a portal's domain if it is safe in a URL."""
    return domain if domain and _HOST.fullmatch(domain) else None


def chat_link(host: str | None, im_chat_id: int | None) -> str | None:
    """Return the URL of a chat in Bitrix24; a customer's own deletion has none."""
    return f"https://{host}/online/?IM_DIALOG=chat{im_chat_id}" if host and im_chat_id else None


def employee_link(host: str | None, user_id: int | None) -> str | None:
    """Return the URL of an employee's page in Bitrix24."""
    return f"https://{host}/company/personal/user/{user_id}/" if host and user_id else None


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _time(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
