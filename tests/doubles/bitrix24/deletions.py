"""The identities of the deletions that a portal has seen, for tests to compare."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PortalDeletion:
    """One element of shape (a); the first four fields identify it."""

    member_id: str
    im_chat_id: int
    im_message_id: int
    message_id: str
    connector: str
    line_id: int
    chat_id: str
    user_id: int | None


@dataclass(frozen=True)
class CustomerDeletion:
    """A deletion of shape (b); all but the last field identify it."""

    member_id: str
    connector: str
    line_id: int
    chat_id: str
    message_id: str
    user_id: int
