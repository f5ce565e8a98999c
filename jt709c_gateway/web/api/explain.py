"""Serves explanations of frames, field by field."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from attrs import define, field
from twisted.internet import defer, threads

from jt709c_gateway.commands.value_description import unknown_names
from jt709c_gateway.dissector import Explainer, Explanation
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.protocol.hex_input import read_hex
from jt709c_gateway.web.http import ApiError, ApiRequest, Response
from jt709c_gateway.web.query import Parameter
from jt709c_gateway.web.roles import Right
from jt709c_gateway.web.router import Result, Route

#: Maximum characters of a text with frames: more than the longest frame in hex.
MAX_TEXT: Final = 8192
_FRAME: Final = Parameter(
    "frame", str, "Hex, or a sentence.", {"type": "string", "maxLength": MAX_TEXT}, required=True
)


class FrameText(msgspec.Struct):
    """A frame to explain: hex, or a sentence."""

    frame: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class Explanations(msgspec.Struct):
    """Frames, each as `jt709c explain --json` prints it."""

    frames: list[Explanation]


@define(eq=False)
class ExplainApi:
    """The handlers of /explain.

    One thread at a time dissects frames: more computing threads would slow down the reactor.
    """

    _turn: defer.DeferredLock = field(factory=defer.DeferredLock, init=False, repr=False)

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        results = {200: Result(Explanations)}
        return [
            Route("GET", "/explain", self.explain, results, (_FRAME,)),
            Route("POST", "/explain", self.explain_body, results, body=FrameText, right=Right.READ),
        ]

    async def explain(self, request: ApiRequest) -> Response:
        """GET /explain: every byte of a frame with its field, value and meaning.

        For a frame that is short enough for a URL. Passwords are masked.
        """
        return await self._explain(request.param(_FRAME))

    async def explain_body(self, request: ApiRequest) -> Response:
        """POST /explain: every byte of a frame with its field, value and meaning.

        Passwords are masked.
        """
        body = request.json_object()
        if unknown := unknown_names(body, FrameText.__struct_fields__, "field"):
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
    return to_json(Explanations(list(Explainer().explain_all(data, datetime.now(UTC)))))
