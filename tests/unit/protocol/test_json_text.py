"""JSON in which no control character stands as it is."""

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli import event_display
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import to_json, to_text
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.json_text import escape_bytes, escape_text
from jt709c_gateway.web.http import ApiError, json_response
from jt709c_gateway.web.sse import message

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]


class EscapeTests(SynchronousTestCase):
    def assert_clean(self, text: str) -> None:
        self.assertFalse([one for one in CONTROLS if one in text], text)

    @given(st.text())
    def test_it_means_the_same(self, value: str) -> None:
        """A reader of JSON gets the text, and no control character stands in it."""
        for text in (to_text({"a": value}), to_json({"a": value}).decode()):
            self.assertEqual(json.loads(text), {"a": value})
            self.assert_clean(text)

    def test_every_control(self) -> None:
        """Each of them, alone and among other text that is not ASCII."""
        for one in CONTROLS:
            for value in (one, f"\u00e9{one}\U0001f512\u00c2"):
                text = json.dumps(value, ensure_ascii=False)
                for clean in (escape_text(text), escape_bytes(text.encode()).decode()):
                    self.assertEqual(json.loads(clean), value)
                    self.assert_clean(clean)

    def test_a_sentence_with_controls(self) -> None:
        """An event of such a sentence, as it is published."""
        raw = b"(794300000077,1,001,WLNET,5,2," + bytes(range(0x7F, 0xA0)) * 2 + b")"
        message_ = Decoder().decode(Framer().feed_datagram(raw)[0], 0.0)
        for event in wrap_all(message_, Origin()):
            self.assert_clean(to_text(event))

    def test_the_web(self) -> None:
        """Answers, errors and the stream of events of the API."""
        value = "".join(CONTROLS)
        self.assert_clean(json_response({"a": value}).body.decode())
        self.assert_clean(ApiError(400, value).response().body.decode())
        data = json.dumps(value, ensure_ascii=False).encode()
        self.assert_clean(message("event", data).decode().replace("\n", ""))

    def test_watch(self) -> None:
        """`jt709c watch --json` shows what others have published without them, too."""
        shown: list[str] = []
        wanted = event_display.EventFilter("jt709c", (), (), None, True)
        display = event_display.Display(wanted, [])
        display._out.out = lambda text, **_: shown.append(text)
        event = {"id": "1", "kind": "reply", "device": "1", "data": {"word": "".join(CONTROLS)}}
        display.show("x", json.dumps(event, ensure_ascii=False).encode())
        self.assertEqual(json.loads(shown[0]), event)
        self.assert_clean(shown[0])
