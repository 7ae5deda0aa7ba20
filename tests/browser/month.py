"""A made-up month of deletions, always the same, for tests and pictures."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from handler.deadline import Deadline
from handler.stores.interface import Document, Fields
from handler.stores.sqlite import LocalStore

PORTAL: Final = "a223c6b3710f85df22e9377d6c4f7553"
DOMAIN: Final = "mycompany.bitrix24.com"
FIRST: Final = datetime(2026, 3, 1, tzinfo=UTC)
DAYS: Final = 31
BUSIEST: Final = 17

_LINES: Final = (("whatsapp", 107), ("telegrambot", 112), ("instagram", 128), ("myconnector", 140))
_SHARES: Final = (46, 27, 18, 9)
_EMPLOYEES: Final = (27, 27, 27, 14, 14, 31, 9, None)
_TEXTS: Final = (
    "Sorry, wrong chat!",
    "The price is [b]1,200[/b] without delivery.",
    "Please ignore my last message, I will check with the warehouse and write again before noon.",
    "Здравствуйте! Заказ 4821 будет у вас завтра до 14:00.",  # noqa: RUF001 - it is Russian
    "شكرًا، سأرسل لكم العنوان الجديد بعد قليل.",
    "Πότε θα σταλεί η παραγγελία μου;",
    "Danke, hat sich erledigt 🙂",
    "I'd like my money back. Nobody has answered since Monday.",
    "Моя карта 2200 … нет, не надо",
    None,
)


def deletions() -> Iterator[Document]:
    """Return the records, oldest first."""
    chance = random.Random(2026)
    number = 0
    for day in range(DAYS):
        moment = FIRST + timedelta(days=day)
        expected = 12 if moment.weekday() < 5 else 4
        count = 38 if day + 1 == BUSIEST else chance.randint(expected // 2, expected * 3 // 2)
        seconds = sorted(chance.randrange(7 * 3600, 21 * 3600) for _ in range(count))
        for second in seconds:
            number += 1
            yield _deletion(chance, number, moment + timedelta(seconds=second))


def write_store(path: Path) -> None:
    """Write them, and their portal, to an embedded store."""
    store = LocalStore(str(path))
    portal: Fields = {
        "domain": DOMAIN,
        "active": True,
        "drained_at": FIRST + timedelta(days=29, hours=5, minutes=40),
        "problem": "The queue cannot be read: an administrator must choose Reinstall.",
        "problem_since": FIRST + timedelta(days=29, hours=6),
    }
    documents = [Document(f"portals/{PORTAL}", portal)]
    documents += [
        Document(
            f"portals/{PORTAL}/quarantine/{number}", {"received_at": FIRST + timedelta(days=9)}
        )
        for number in range(3)
    ]
    for document in [*documents, *deletions()]:
        store.put(document, Deadline(30))


def _deletion(chance: random.Random, number: int, moment: datetime) -> Document:
    connector, line = chance.choices(_LINES, _SHARES)[0]
    text = chance.choice(_TEXTS)
    record: Fields = {
        "member_id": PORTAL,
        "domain": DOMAIN,
        "event": "ONOPENLINEMESSAGEDELETE",
        "via": "online",
        "connector": connector,
        "line_id": line,
        "message_id": f"wamid.HBgL{chance.randrange(10**11):011}",
        "chat_id": f"{chance.randrange(49 * 10**10, 50 * 10**10)}",
        "event_at": moment,
        "recorded_at": moment + timedelta(milliseconds=chance.randrange(200, 1_500)),
    }
    known: Fields = {}
    if text:
        sent = moment - timedelta(seconds=chance.randrange(10, 90_000))
        known = {"text": text, "author_id": 27, "sent_at": sent}
    if chance.random() < 0.6:
        user_id = chance.choice(_EMPLOYEES)
        record = {
            **record,
            "origin": "portal",
            "im_chat_id": 1_800 + number % 40,
            "im_message_id": number,
            **({"user_id": user_id} if user_id else {}),
        }
    else:
        record = {**record, "origin": "customer", "user_id": 500 + number % 60}
    return Document(f"portals/{PORTAL}/deletions/{number:05}", {**record, **known})
