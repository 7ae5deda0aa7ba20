"""A stand-in for Bitrix24 on loopback: its OAuth servers, its portals, its events, its faults.

What it does follows Bitrix24's documentation (apidocs.bitrix24.com, 2024 to 2026) and the source of
its modules `rest` and `oauth`; docstrings name the page or the class. "Inferred" marks what no
source confirms. Methods of REST that it does not know answer ERROR_METHOD_NOT_FOUND.
"""

from tests.doubles.bitrix24.deletions import CustomerDeletion, PortalDeletion
from tests.doubles.bitrix24.delivery import Delivery
from tests.doubles.bitrix24.faults import (
    BodyDrip,
    Disconnect,
    Fault,
    HeaderDrip,
    Html,
    HugeBody,
    LostAnswer,
    OtherResult,
    Redirect,
    Refusal,
    Silence,
    TruncatedBody,
    WrongContentType,
)
from tests.doubles.bitrix24.installation import Installation, Token
from tests.doubles.bitrix24.php import Value, http_build_query, parse_str
from tests.doubles.bitrix24.portal import Portal
from tests.doubles.bitrix24.refusals import (
    BINDING_BUSY,
    OPERATION_TIME_LIMIT,
    QUERY_LIMIT_EXCEEDED,
    WRONG_CLIENT,
)
from tests.doubles.bitrix24.server import Bitrix24, Call

__all__ = [
    "BINDING_BUSY",
    "OPERATION_TIME_LIMIT",
    "QUERY_LIMIT_EXCEEDED",
    "WRONG_CLIENT",
    "Bitrix24",
    "BodyDrip",
    "Call",
    "CustomerDeletion",
    "Delivery",
    "Disconnect",
    "Fault",
    "HeaderDrip",
    "Html",
    "HugeBody",
    "Installation",
    "LostAnswer",
    "OtherResult",
    "Portal",
    "PortalDeletion",
    "Redirect",
    "Refusal",
    "Silence",
    "Token",
    "TruncatedBody",
    "Value",
    "WrongContentType",
    "http_build_query",
    "parse_str",
]
