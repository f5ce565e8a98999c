"""Frames taken apart, for people who look at them in a browser."""

from datetime import UTC, datetime
from typing import Any, Final

from attrs import define, field
from twisted.internet import defer, threads

from jt709c_gateway.commands.value_description import unknown_names
from jt709c_gateway.dissector import Explainer
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.protocol.hex_input import read_hex
from jt709c_gateway.web.http import ApiError, ApiRequest, Response

#: Characters of a text with frames: the longest frame there is, in hex, and some.
MAX_TEXT: Final = 8192


@define(eq=False)
class ExplainApi:
    """The handlers. Frames are taken apart in a thread, one call after another: more threads that compute
    would hold up the reactor's."""

    _turn: defer.DeferredLock = field(factory=defer.DeferredLock, init=False, repr=False)

    async def get(self, call: ApiRequest) -> Response:
        """GET /explain: a short frame, or one in a link."""
        call.only("frame")
        return await self._explain(call.one("frame", str, None))

    async def post(self, call: ApiRequest) -> Response:
        """POST /explain."""
        call.only()
        body = call.object()
        if unknown := unknown_names(body, ("frame",), "field"):
            raise ApiError(400, f"unknown {unknown}: expected frame alone")
        return await self._explain(body.get("frame"))

    async def _explain(self, text: Any) -> Response:
        right = f"expected hex or a sentence, at most {MAX_TEXT} characters"
        if not isinstance(text, str) or not text.strip():
            raise ApiError(400, f"frame: missing or no text; {right}", "frame")
        if len(text) > MAX_TEXT:
            raise ApiError(400, f"frame: {len(text)} characters; {right}", "frame")
        try:
            data = read_hex(text)
        except ValueError as error:
            raise ApiError(400, f"frame: {error}; {right}", "frame") from None
        return Response(await self._turn.run(threads.deferToThread, _taken_apart, data))


def _taken_apart(data: bytes) -> bytes:
    # Passwords are masked, and what the gateway makes of the frame is what it would publish.
    explanations = Explainer().explain_all(data, datetime.now(UTC))
    return b'{"frames":[%b]}' % b",".join(to_json(one) for one in explanations)
