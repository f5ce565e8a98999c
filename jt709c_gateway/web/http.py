"""One call of the API: what it asks for, and what it is answered."""

import gzip
import io
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

import msgspec
from attrs import define, field, frozen
from twisted.internet import defer, threads
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure

from jt709c_gateway.commands.value_description import described, unknown_names
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.web.request_site import JSON_BODY, content_type

JSON: Final = "application/json; charset=utf-8"
#: Bytes from which compressing pays, and from which it is done in a thread.
_WORTH_IT: Final = 1400
_TOO_LONG: Final = 1 << 16

_Value = TypeVar("_Value")


class ApiError(Exception):
    """A call that can't be done: `message` is one line, says what is right and holds no secret."""

    def __init__(
        self,
        status: int,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.headers = headers or {}

    def answer(self) -> "Response":
        """What is sent."""
        return Response(
            to_json({"error": {"field": self.field, "message": self.message}}),
            self.status,
            headers=self.headers,
        )


def bad_request(name: str, value: object, right: str) -> ApiError:
    """The complaint about a parameter; `right` is what was expected."""
    return ApiError(400, f"{name} is {described(value)}: expected {right}", name)


@define
class ClientGone:
    """Whether whoever asked has gone away; a call to Redis that is under way can't be cancelled for that."""

    yes: bool = False

    @classmethod
    def watch(cls, request: Any) -> "ClientGone":
        """One that follows a request."""
        gone = cls()

        def note(_: Any) -> None:
            gone.yes = True

        request.notifyFinish().addErrback(note)
        return gone


@define(eq=False)
class Response:
    """What a call is answered. It may be sent to any number of clients; it is compressed once."""

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
        """Send it, compressed where the client takes that and it pays; a long body as the client reads it."""
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
                # The client has gone away, as the only thing that can happen to bytes in memory.
                return
        if not gone.yes:
            request.finish()


def accepts_gzip(header: bytes | None) -> bool:
    """Whether an Accept-Encoding (RFC 9110 §12.5.3) takes gzip."""
    for one in (header or b"").lower().split(b","):
        coding, _, weight = one.partition(b";")
        if coding.strip() in (b"gzip", b"*"):
            return weight.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0.", b"q=.")
    return False


def json_response(value: object, status: int = 200) -> Response:
    """An answer of anything that msgspec encodes."""
    return Response(to_json(value), status)


@frozen
class ApiRequest:
    """What is asked: `arguments` are the parts of the path that the route names, `user` is who asks."""

    request: Any = field(repr=False)
    user: str | None = None
    arguments: Mapping[str, str] = field(factory=dict)
    _gone: ClientGone = field(factory=ClientGone)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query in the address, what is no UTF-8 replaced."""
        # As text: of bytes, what is not ASCII once it is unquoted makes an error.
        text = self.request.uri.partition(b"?")[2].decode("ascii", "replace")
        return parse_qs(text, keep_blank_values=True)

    @property
    def gone(self) -> bool:
        """Whether whoever asked has gone away."""
        return self._gone.yes

    def only(self, *names: str) -> None:
        """Refuse a query parameter that is none of these."""
        if unknown := unknown_names(self.query, names, "parameter"):
            raise ApiError(400, f"unknown {unknown}: expected {', '.join(names) or 'no parameter'}")

    def many(self, name: str, read: Callable[[str], _Value]) -> tuple[_Value, ...]:
        """The values of a parameter that may be repeated; `read` raises ValueError, saying what is right."""
        found = []
        for text in self.query.get(name, ()):
            try:
                found.append(read(text))
            except ValueError as error:
                raise bad_request(name, text, str(error)) from None
        return tuple(found)

    def one(self, name: str, read: Callable[[str], _Value], default: Any = None) -> Any:
        """The value of a parameter."""
        found = self.many(name, read)
        if len(found) > 1:
            raise ApiError(400, f"{name} is given {len(found)} times: expected it once", name)
        return found[0] if found else default

    def argument(self, name: str, read: Callable[[str], _Value]) -> _Value:
        """A part of the path."""
        try:
            return read(self.arguments[name])
        except ValueError as error:
            raise bad_request(name, self.arguments[name], str(error)) from None

    def object(self) -> dict[str, Any]:
        """The body, which has to be a JSON object; what stands in it is repeated in no complaint."""
        if content_type(self.request.getHeader(b"content-type") or b"") != JSON_BODY.encode():
            raise ApiError(415, f"content-type: expected {JSON_BODY}", "content-type")
        try:
            found: dict[str, Any] = msgspec.json.decode(self.request.content.read(), type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ApiError(400, "the body: expected a JSON object in UTF-8") from None
        return found


Handler = Callable[[ApiRequest], Awaitable[Response | None]]
"""Answers a call; None when it has dealt with the request itself, or is going to."""


@define(eq=False)
class _Entry:
    at: float
    waiting: "list[defer.Deferred[Any]] | None" = field(factory=list)
    result: Any = None


class SharedResponse:
    """Answers that many ask for at a time: made once for all who ask within `seconds`, and one after another.

    A result is as old as the moment at which it was asked for; at most `most` are kept, and none for longer.
    """

    def __init__(self, clock: Any, seconds: float = 1.0, most: int = 8) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._entries: dict[Any, _Entry] = {}
        self._turn = defer.DeferredLock()

    async def get(self, key: Any, make: Callable[[], Awaitable[_Value]]) -> _Value:
        """The result under a key; what `make` raises goes to all who wait for it."""
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
            # Of a large fleet it is some megabytes.
            self._clock.callLater(self._seconds, self._forget, key, entry)
        for one in waiting:
            if not one.called:
                one.callback(result)

    def _forget(self, key: Any, entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]


async def _awaited(awaitable: Awaitable[_Value]) -> _Value:
    return await awaitable
