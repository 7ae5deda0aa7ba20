"""A double of Firestore on 127.0.0.1, which can be made to fail.

It knows the calls that the project makes, and answers them as Google's emulator does (the same
tests run against both); anything else is UNIMPLEMENTED.
"""

import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import Any, Self, TypeAlias

import grpc
from google.cloud.firestore_v1 import types
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # has no types
from grpc import StatusCode

from tests.doubles.firestore_indexes import missing_index
from tests.doubles.firestore_queries import select
from tests.doubles.function import free_port

Apply: TypeAlias = Callable[[], Sequence[Any]]
Fault: TypeAlias = Callable[[Apply, grpc.ServicerContext], Sequence[Any]]

_THREADS = 64  # each hanging call occupies one
_RESERVED = re.compile(r"\.|\.\.|(?!__id[0-9]+__)__.+__", re.DOTALL)
_MAX_NAME_BYTES = 1_500


class Refused(Exception):  # noqa: N818 - it names what happens to the call
    """A call is answered with a status other than OK."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class FirestoreDouble:
    """A double with all its documents in memory, for as long as a `with` block lasts.

    `calls` counts the calls by method, those that failed too. The newest one came with `headers`,
    and its caller would wait `patience` seconds. Faults strike the next calls of their method, in
    the order in which they were planned.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.patience: float | None = None
        self._port = free_port()
        self._lock = Lock()
        self._documents: dict[str, Any] = {}
        self._last_moment = 0
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """Its address, in the form of FIRESTORE_EMULATOR_HOST."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port each time."""
        self._threads = ThreadPoolExecutor(_THREADS)
        self._server = grpc.server(self._threads, options=[("grpc.so_reuseport", 0)])
        handlers = {
            "Commit": self._handler("Commit", self._commit),
            "BatchGetDocuments": self._handler("BatchGetDocuments", self._batch_get, stream=True),
            "RunQuery": self._handler("RunQuery", self._run_query, stream=True),
            "RunAggregationQuery": self._handler(
                "RunAggregationQuery", self._run_aggregation_query, stream=True
            ),
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("google.firestore.v1.Firestore", handlers)]
        )
        self._server.add_insecure_port(self.host)
        self._server.start()

    def stop(self) -> None:
        """Cut all connections, stop listening, and keep the documents."""
        self._server.stop(None).wait()
        self._threads.shutdown()

    def drop_connections(self) -> None:
        """Cut all connections, and listen again."""
        self.stop()
        self.start()

    def refuse(self, method: str, code: StatusCode, times: int = 1) -> None:
        """Answer the next calls with a status instead of executing them."""

        def fault(_apply: Apply, _context: grpc.ServicerContext) -> Sequence[Any]:
            raise Refused(code, f"refused by a test with {code.name}")

        self._plan(method, fault, times)

    def lose_answer(self, method: str, times: int = 1) -> None:
        """Execute the next calls, but answer that the server is unavailable."""

        def fault(apply: Apply, _context: grpc.ServicerContext) -> Sequence[Any]:
            apply()
            raise Refused(StatusCode.UNAVAILABLE, "the answer was lost by a test")

        self._plan(method, fault, times)

    def hang(self, method: str, times: int = 1, *, after_applying: bool = False) -> None:
        """Do not answer the next calls, executed or not."""

        def fault(apply: Apply, context: grpc.ServicerContext) -> Sequence[Any]:
            if after_applying:
                apply()
            _wait(context, None)
            raise Refused(StatusCode.CANCELLED, "nobody listens any longer")

        self._plan(method, fault, times)

    def delay(self, method: str, seconds: float, times: int = 1) -> None:
        """Delay the next calls."""

        def fault(apply: Apply, context: grpc.ServicerContext) -> Sequence[Any]:
            _wait(context, seconds)
            return apply()

        self._plan(method, fault, times)

    def interrupt(self, method: str, action: Callable[[], object]) -> None:
        """Run something just before the next call is answered."""

        def fault(apply: Apply, _context: grpc.ServicerContext) -> Sequence[Any]:
            action()
            return apply()

        self._plan(method, fault, 1)

    def heal(self) -> None:
        """Forget all pending faults."""
        with self._lock:
            self._faults.clear()

    def _plan(self, method: str, fault: Fault, times: int) -> None:
        with self._lock:
            self._faults[method].extend([fault] * times)

    def _handler(
        self, method: str, answer: Callable[[Any], Sequence[Any]], *, stream: bool = False
    ) -> grpc.RpcMethodHandler:
        def one(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
            (response,) = self._serve(method, answer, request, context)
            return response

        def several(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: ANN401
            yield from self._serve(method, answer, request, context)

        kind, serve = (
            (grpc.unary_stream_rpc_method_handler, several)
            if stream
            else (grpc.unary_unary_rpc_method_handler, one)
        )
        return kind(
            serve,
            request_deserializer=getattr(types, f"{method}Request").pb().FromString,
            response_serializer=getattr(types, f"{method}Response").pb().SerializeToString,
        )

    def _serve(
        self,
        method: str,
        answer: Callable[[Any], Sequence[Any]],
        request: Any,  # noqa: ANN401 - grpc and protobuf's generated messages have no types
        context: grpc.ServicerContext,
    ) -> Sequence[Any]:
        with self._lock:
            self.calls[method] += 1
            self.headers = dict(context.invocation_metadata())
            del self.headers["user-agent"]  # is gRPC's own
            self.patience = context.time_remaining()
            fault = self._faults[method].popleft() if self._faults[method] else None

        def apply() -> Sequence[Any]:
            _check_headers(request, context.invocation_metadata())
            with self._lock:
                return answer(request)

        try:
            return fault(apply, context) if fault else apply()
        except Refused as refusal:
            context.abort(refusal.code, str(refusal))
        except Exception as error:  # noqa: BLE001 - a fault of the double must not look like one that passes
            context.abort(StatusCode.UNIMPLEMENTED, f"the double failed: {error!r}")
        raise AssertionError("abort raises")

    def _commit(self, request: Any) -> Sequence[Any]:  # noqa: ANN401
        moment = self._next_moment()
        documents = dict(self._documents)
        inserted = set()
        response = types.CommitResponse.pb()()
        for write in request.writes:
            name = write.delete or write.update.name
            _check_name(name, request.database)
            if name in inserted:
                raise Refused(StatusCode.INVALID_ARGUMENT, "Cannot insert then insert an entity.")
            _check_precondition(write.current_document, documents.get(name))
            if write.delete:
                documents.pop(name, None)
                response.write_results.add()
                continue
            if name not in documents:
                inserted.add(name)
            written = _written(write, documents.get(name), moment)
            documents[name] = written
            response.write_results.add(update_time=written.update_time)
        self._documents = documents
        response.commit_time.CopyFrom(moment)
        return [response]

    def _batch_get(self, request: Any) -> Sequence[Any]:  # noqa: ANN401
        answers = []
        for name in request.documents:
            _check_name(name, request.database)
            answer = types.BatchGetDocumentsResponse.pb()(read_time=self._next_moment())
            if name in self._documents:
                answer.found.CopyFrom(self._documents[name])
            else:
                answer.missing = name
            answers.append(answer)
        return answers[::-1]  # the order is not guaranteed

    def _run_query(self, request: Any) -> Sequence[Any]:  # noqa: ANN401
        found = self._found(request.parent, request.structured_query)
        now = self._next_moment()
        response = types.RunQueryResponse.pb()
        # Without results, there is still one answer, with the time.
        return [
            *(response(document=document, read_time=now) for document in found),
            *([] if found else [response(read_time=now)]),
        ]

    def _run_aggregation_query(self, request: Any) -> Sequence[Any]:  # noqa: ANN401
        aggregated = request.structured_aggregation_query
        response = types.RunAggregationQueryResponse.pb()(read_time=self._next_moment())
        found = self._found(request.parent, aggregated.structured_query)
        for aggregation in aggregated.aggregations:
            if aggregation.WhichOneof("operator") != "count":
                raise Refused(StatusCode.UNIMPLEMENTED, "only count")
            response.result.aggregate_fields[aggregation.alias].integer_value = len(found)
        return [response]

    def _found(self, parent: str, query: Any) -> list[Any]:  # noqa: ANN401
        if missing := missing_index(query):
            raise Refused(StatusCode.FAILED_PRECONDITION, missing)
        return select(self._documents, parent, query)

    def _next_moment(self) -> Timestamp:
        """Return the time, in microseconds as in Firestore, never the same twice."""
        self._last_moment = max(self._last_moment + 1, time.time_ns() // 1_000)
        moment = Timestamp()
        moment.FromMicroseconds(self._last_moment)
        return moment


def _wait(context: grpc.ServicerContext, seconds: float | None) -> None:
    """Wait until the client has gone, or at most this long."""
    gone = Event()
    if context.add_callback(gone.set):
        gone.wait(seconds)


def _check_headers(request: Any, sent: Sequence[tuple[str, str]]) -> None:  # noqa: ANN401
    """Firestore finds the database by its header, before it reads the request."""
    headers = dict(sent)
    if len(headers) < len(sent):
        raise Refused(StatusCode.INVALID_ARGUMENT, "Repeated header.")
    database = getattr(request, "database", None) or request.parent.partition("/documents")[0]
    if headers.get("google-cloud-resource-prefix") != database:
        raise Refused(StatusCode.INVALID_ARGUMENT, "Missing routing header.")


def _check_name(name: str, database: str) -> None:
    root = f"{database}/documents/"
    parts = name.removeprefix(root).split("/")
    if (
        not name.startswith(root)
        or len(parts) % 2
        or any(
            not part or _RESERVED.fullmatch(part) or len(part.encode()) > _MAX_NAME_BYTES
            for part in parts
        )
    ):
        raise Refused(StatusCode.INVALID_ARGUMENT, f"Document name {name!r} is invalid.")


def _check_precondition(condition: Any, document: Any) -> None:  # noqa: ANN401
    kind = condition.WhichOneof("condition_type")
    if kind == "exists" and not condition.exists and document:
        raise Refused(StatusCode.ALREADY_EXISTS, f"entity already exists: {document.name}")
    if kind == "exists" and condition.exists and not document:
        raise Refused(StatusCode.NOT_FOUND, "no entity to update")
    if kind == "update_time" and (not document or condition.update_time != document.update_time):
        raise Refused(StatusCode.FAILED_PRECONDITION, "the stored version does not match")


def _written(write: Any, former: Any, moment: Timestamp) -> Any:  # noqa: ANN401
    """Return the document after a write; one that changes nothing keeps its version, too."""
    document = types.Document.pb()(name=write.update.name, fields=write.update.fields)
    if write.HasField("update_mask"):
        document.fields.clear()
        for name, value in former.fields.items() if former else ():
            document.fields[name].CopyFrom(value)
        for name in write.update_mask.field_paths:
            document.fields.pop(name, None)
            if name in write.update.fields:
                document.fields[name].CopyFrom(write.update.fields[name])
    for transform in write.update_transforms:
        if transform.set_to_server_value != (
            types.DocumentTransform.FieldTransform.ServerValue.REQUEST_TIME
        ):
            raise Refused(StatusCode.UNIMPLEMENTED, "only the request's time")
        stamp = document.fields[transform.field_path].timestamp_value
        stamp.FromMilliseconds(moment.ToMilliseconds())
    if former and former.fields == document.fields:
        return former
    document.create_time.CopyFrom(former.create_time if former else moment)
    document.update_time.CopyFrom(moment)
    return document
