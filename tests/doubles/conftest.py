"""Bitrix24, a portal, an application and a handler, for the tests of the stand-in itself."""

from collections.abc import Iterator

import pytest

from tests.doubles.bitrix24 import Bitrix24, Installation, Portal
from tests.doubles.bitrix24_client import Handler


@pytest.fixture
def portal(bitrix: Bitrix24) -> Portal:
    """Return a portal whose plan includes everything."""
    return bitrix.add_portal()


@pytest.fixture
def app(portal: Portal) -> Installation:
    """Return an application with the permission imopenlines."""
    return portal.install()


@pytest.fixture
def handler() -> Iterator[Handler]:
    """Return a receiver of events."""
    with Handler() as handler:
        yield handler
