"""Serves explanations of frames, field by field."""

from datetime import UTC, datetime
from typing import Any, Final

from attrs import define, field
from twisted.internet import defer, threads

from jt709c_gateway.commands.value_description import unknown_names
from jt709c_gateway.dissector import Explainer
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.protocol.hex_input import read_hex
from jt709c_gateway.web.http import ApiError, ApiRequest, Response

#: Maximum characters of a text with frames: more than the longest frame in hex.
MAX_TEXT: Final = 8192


@define(eq=False)
class ExplainApi:
    """The handlers of /explain.

    One thread at a time dissects frames: more computing threads would slow down the reactor.
    """

    _turn: defer.DeferredLock = field(factory=defer.DeferredLock, init=False, repr=False)

    async def get(self, request: ApiRequest) -> Response:
        """GET /explain: explain a short frame, which a link may hold."""
        request.reject_unknown_params("frame")
        return await self._explain(request.param("frame", str, None))

    async def post(self, request: ApiRequest) -> Response:
        """POST /explain: explain a frame."""
        request.reject_unknown_params()
        body = request.json_object()
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
        return Response(await self._turn.run(threads.deferToThread, _explain_json, data))


def _explain_json(data: bytes) -> bytes:
    # The explainer masks passwords and shows the events that the gateway would publish.
    explanations = Explainer().explain_all(data, datetime.now(UTC))
    return b'{"frames":[%b]}' % b",".join(to_json(one) for one in explanations)
