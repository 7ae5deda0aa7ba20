"""event.offline.list, event.offline.get and event.offline.clear.

Sources: the pages of apidocs.bitrix24.com of the same names, and the class Api.Event of the
module `rest`, which decides where a page says less.
"""

from typing import TYPE_CHECKING

from tests.doubles.bitrix24 import errors
from tests.doubles.bitrix24.offline_queue import (
    GET_FIELDS,
    LIST_FIELDS,
    Row,
    conditions,
    sequence,
)
from tests.doubles.bitrix24.php import intval
from tests.doubles.bitrix24.request import Answer, Request

if TYPE_CHECKING:
    from tests.doubles.bitrix24.php import Value

PAGE = 50
"""IRestService::LIST_LIMIT."""


def event_offline_list(request: Request) -> Answer:
    """Read the queue, 50 rows from `start`, without changing anything; on every plan."""
    request.require_admin()
    tests = conditions(request.params.get("FILTER"), LIST_FIELDS)
    order = sequence(request.params.get("ORDER", {"ID": "ASC"}), LIST_FIELDS)
    found = request.portal.offline.select(request.app.client_id, tests, order)
    start = max(0, intval(request.params.get("START")))
    page = found[start : start + PAGE]
    paging: dict[str, Value] = {"total": len(found)}
    if start + len(page) < len(found):
        paging["next"] = start + len(page)
    return Answer([dict(row) for row in page], paging)


def event_offline_get(request: Request) -> Answer:
    """Take rows: deleted immediately (`clear=1`, the default), or reserved under a process id.

    Either way the rows are in the answer. Reserved rows come again only with their `process_id`;
    `clear=1` then deletes the whole batch, whatever `limit` left out of the answer.
    """
    request.require_admin()
    params, client_id, queue = request.params, request.app.client_id, request.portal.offline
    clear = intval(params.get("CLEAR", 1)) != 0
    if not clear and not request.portal.offline_extended:
        errors.refuse_license("extended offline events handling")
    limit = intval(params.get("LIMIT", PAGE))
    asked = request.text("PROCESS_ID").strip() if params.get("PROCESS_ID") is not None else None
    tests = conditions(params.get("FILTER"), GET_FIELDS)
    order = sequence(params.get("ORDER", {"TIMESTAMP_X": "ASC"}), GET_FIELDS)
    found = [
        row for row in queue.select(client_id, tests, order) if row["PROCESS_ID"] == (asked or "")
    ][:limit]
    process_id = queue.reserve(found) if asked is None else asked
    events: list[Value] = [_without_state(row) for row in found]
    if clear and found:
        queue.clear(client_id, process_id)
    shown = None if clear and asked is None else process_id
    return Answer({"process_id": shown, "events": events})


def _without_state(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in {"PROCESS_ID", "ERROR"}}


def event_offline_clear(request: Request) -> Answer:
    """Delete reserved rows of a process: by `id`, else all.

    An empty array means all, too: the class Api.Event takes it for no list.
    """
    request.require_admin()
    if request.params.get("PROCESS_ID") is None:
        errors.miss_argument("PROCESS_ID")
    process_id = request.text("PROCESS_ID").strip()
    given = request.params.get("ID") or []
    assert isinstance(given, list)
    ids = [str(intval(value)) for value in given]
    request.portal.offline.clear(request.app.client_id, process_id, ids)
    return Answer(result=True)
