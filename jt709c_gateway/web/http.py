"""Requests and responses of the API."""

import gzip
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qs

import msgspec
from attrs import define, field, frozen
from msgspec import UNSET, UnsetType
from twisted.internet import defer, threads
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure

from jt709c_gateway.commands.value_description import described, unknown_names
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.web.query import Parameter
from jt709c_gateway.web.roles import User

JSON_BODY: Final = "application/json"
JSON: Final = f"{JSON_BODY}; charset=utf-8"
#: Bytes from which a body is compressed, and from which a thread compresses it.
_WORTH_IT: Final = 1400
_TOO_LONG: Final = 1 << 16

_Value = TypeVar("_Value")


class ErrorDetail(msgspec.Struct):
    """An error of a request: `field` is the parameter, field or header concerned.

    `message` is one line with the expected value and without secrets.
    """

    field: str | None
    message: Annotated[str, msgspec.Meta(pattern=r"^[^\n]+$")]


class ErrorAnswer(msgspec.Struct):
    """The answer to a request that failed.

    `partitions_away` has the numbers of the partitions that it failed for, where there are several.
    """

    error: ErrorDetail
    partitions_away: list[int] | UnsetType = UNSET


class ApiError(Exception):
    """An error of a request. `message` is one line with the expected value and without secrets."""

    def __init__(
        self,
        status: int,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        partitions_away: Sequence[int] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.headers = headers or {}
        self.partitions_away = list(partitions_away)

    def response(self) -> "Response":
        """The error as JSON."""
        return Response(
            to_json(ErrorAnswer(ErrorDetail(self.field, self.message), self.partitions_away or UNSET)),
            self.status,
            headers=self.headers,
        )


def content_type(header: bytes) -> bytes:
    """The media type of a Content-Type header (RFC 9110 §8.3), without parameters."""
    return header.partition(b";")[0].strip().lower()


def bad_request(name: str, value: object, right: str) -> ApiError:
    """An error 400 about a parameter; `right` is the expected value."""
    return ApiError(400, f"{name} is {described(value)}: expected {right}", name)


@define
class ClientGone:
    """Whether the client has disconnected; running requests to Redis are not cancelled then."""

    yes: bool = False

    @classmethod
    def watch(cls, request: Any) -> "ClientGone":
        """Watch the connection of a request."""
        gone = cls()

        def note(_: Any) -> None:
            gone.yes = True

        request.notifyFinish().addErrback(note)
        return gone


@define(eq=False)
class Response:
    """The response to a request. It may be sent to several clients and is compressed once."""

    body: bytes = field(repr=False)
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(factory=dict)
    _compressed: bytes | None = field(default=None, init=False, repr=False)

    async def _gzipped(self) -> bytes:
        if self._compressed is None:
            if len(self.body) < _TOO_LONG:
                self._compressed = gzip.compress(self.body, 5)
            else:
                self._compressed = await threads.deferToThread(gzip.compress, self.body, 2)
        return self._compressed

    async def send(self, request: Any, gone: "ClientGone") -> None:
        """Send the response, compressed if the client accepts it and it pays; a long body in chunks."""
        body = self.body
        if len(body) >= _WORTH_IT:
            request.setHeader(b"vary", b"accept-encoding")
            if accepts_gzip(request.getHeader(b"accept-encoding")):
                body = await self._gzipped()
                request.setHeader(b"content-encoding", b"gzip")
        if gone.yes:
            return
        request.setResponseCode(self.status)
        request.setHeader(b"content-type", self.content_type.encode())
        for name, value in self.headers.items():
            request.setHeader(name.encode(), value.encode())
        request.setHeader(b"content-length", str(len(body)).encode())
        if len(body) < _TOO_LONG or request.method == b"HEAD":
            request.write(body)
        else:
            sending: Any = FileSender()
            try:
                await sending.beginFileTransfer(io.BytesIO(body), request)
            except Exception:
                # Bytes in memory can only fail because the client has disconnected.
                return
        if not gone.yes:
            request.finish()


def accepts_gzip(header: bytes | None) -> bool:
    """Whether an Accept-Encoding header (RFC 9110 §12.5.3) accepts gzip."""
    for one in (header or b"").lower().split(b","):
        coding, _, weight = one.partition(b";")
        if coding.strip() in (b"gzip", b"*"):
            return weight.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0.", b"q=.")
    return False


def json_response(value: object, status: int = 200) -> Response:
    """Encode a value as a JSON response."""
    return Response(to_json(value), status)


@frozen
class ApiRequest:
    """A request to the API: `path_params` are the named parts of its path, `user` has been authenticated."""

    twisted_request: Any = field(repr=False)
    user: User | None = None
    path_params: Mapping[str, str] = field(factory=dict)
    _gone: ClientGone = field(factory=ClientGone)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query of the URL; invalid UTF-8 is replaced."""
        # As text: parse_qs fails on bytes that are not ASCII once unquoted.
        text = self.twisted_request.uri.partition(b"?")[2].decode("ascii", "replace")
        return parse_qs(text, keep_blank_values=True)

    @property
    def gone(self) -> bool:
        """Whether the client has disconnected."""
        return self._gone.yes

    def reject_unknown_params(self, names: Sequence[str]) -> None:
        """Raise :class:`ApiError` for query parameters other than these."""
        if unknown := unknown_names(self.query, names, "parameter"):
            raise ApiError(400, f"unknown {unknown}: expected {', '.join(names) or 'no parameter'}")

    def params(self, parameter: Parameter[_Value]) -> tuple[_Value, ...]:
        """The values of a repeatable parameter of the query."""
        return tuple(_parsed(parameter, text) for text in self.query.get(parameter.name, ()))

    def param(self, parameter: Parameter[Any]) -> Any:
        """The value of a parameter of the query, or its default."""
        found = self.params(parameter)
        if len(found) > 1:
            name = parameter.name
            raise ApiError(400, f"{name} is given {len(found)} times: expected it once", name)
        return found[0] if found else parameter.default

    def path_param(self, parameter: Parameter[_Value]) -> _Value:
        """The value of a named part of the path."""
        return _parsed(parameter, self.path_params[parameter.name])

    def json_object(self) -> dict[str, Any]:
        """Parse the body as a JSON object; errors do not repeat its content."""
        if content_type(self.twisted_request.getHeader(b"content-type") or b"") != JSON_BODY.encode():
            raise ApiError(415, f"content-type: expected {JSON_BODY}", "content-type")
        try:
            found: dict[str, Any] = msgspec.json.decode(
                self.twisted_request.content.read(), type=dict[str, Any]
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ApiError(400, "the body: expected a JSON object in UTF-8") from None
        return found


def _parsed(parameter: Parameter[_Value], text: str) -> _Value:
    try:
        return parameter.parse(text)
    except ValueError as error:
        raise bad_request(parameter.name, text, str(error)) from None


Handler = Callable[[ApiRequest], Awaitable[Response | None]]
"""Answers a request; None if it writes to the request itself."""


@define(eq=False)
class _Entry:
    at: float
    waiting: "list[defer.Deferred[Any]] | None" = field(factory=list)
    result: Any = None


class SharedResponse:
    """Caches responses for `seconds`, so that simultaneous requests share one; computes one at a time.

    The age of a result counts from its request. At most `most` results are kept.
    """

    def __init__(self, clock: Any, seconds: float = 1.0, most: int = 8) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._entries: dict[Any, _Entry] = {}
        self._turn = defer.DeferredLock()

    async def get(self, key: Any, make: Callable[[], Awaitable[_Value]]) -> _Value:
        """Return the result for a key; an exception of `make` goes to all that wait for it."""
        now = self._clock.seconds()
        entry = self._entries.get(key)
        if entry is None or (entry.waiting is None and now - entry.at >= self._seconds):
            self._entries = {
                known: one
                for known, one in list(self._entries.items())[-self._most :]
                if one.waiting is not None or now - one.at < self._seconds
            }
            entry = self._entries[key] = _Entry(now)
            running = self._turn.run(lambda: defer.Deferred.fromCoroutine(_awaited(make())))
            running.addBoth(self._made, key, entry)
        if entry.waiting is None:
            if isinstance(entry.result, Failure):
                entry.result.raiseException()
            found: _Value = entry.result
            return found
        waiting: defer.Deferred[_Value] = defer.Deferred()
        entry.waiting.append(waiting)
        return await waiting

    def _made(self, result: Any, key: Any, entry: _Entry) -> None:
        waiting, entry.waiting, entry.result = entry.waiting or [], None, result
        if isinstance(result, Failure):
            self._forget(key, entry)
        else:
            # The list of a large fleet has some megabytes.
            self._clock.callLater(self._seconds, self._forget, key, entry)
        for one in waiting:
            if not one.called:
                one.callback(result)

    def _forget(self, key: Any, entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]


async def _awaited(awaitable: Awaitable[_Value]) -> _Value:
    return await awaitable
