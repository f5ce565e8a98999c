"""What must not be shown: passwords in events, logs and states."""

import json
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher

from jt709c_gateway.protocol.jt808 import pack
from tests.support.committer import events_in
from tests.support.gateway_frames import PASSWORD_EVENT, FrameCase, heartbeat
from tests.vectors import binary, location

DEVICE = "794308010679"


class SecrecyTests(FrameCase):
    """Passwords stand in no event, no log, no state; a dynamic one goes to its own key only."""

    SECRETS = ("427819", "529439", "apnpass")

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            self.lines.append(f"{formatEvent(event)} {event!r}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def check(self, *frames: bytes) -> list[Any]:
        self.fleet.feed(self.link, *frames)
        contents = self.fleet.commit()
        shown = [list(content) for content in contents]
        for content in shown:
            if content[0] and content[5]:
                content[5] = [*content[5][:3], content[5][4]]
        written = json.dumps(shown) + "".join(self.lines) + repr(self.gateway.sessions)
        for secret in self.SECRETS:
            self.assertNotIn(secret, written)
            self.assertNotIn(secret.encode().hex(), written)
        return contents

    def test_lock_event(self) -> None:
        """A password typed at the lock."""
        contents = self.check(binary(0x0200, location(PASSWORD_EVENT)))
        _, position, lock = events_in(contents)
        self.assertTrue(position["raw_masked"] and lock["raw_masked"])
        self.assertIn("2a" * 6, position["raw"])
        self.assertEqual(lock["data"]["method"], "password")

    def test_impossible_date(self) -> None:
        """A password in a report that is kept for its impossible date."""
        payload = bytearray(binary(0x0200, location(PASSWORD_EVENT))[1:-2])
        payload[12 + 22 : 12 + 28] = b"\x99" * 6
        self.check(pack(bytes(payload)))
        self.assertEqual(len(self.malformed()), 1)

    def test_malformed(self) -> None:
        """A password in a frame that did not arrive intact, also in the log."""
        frame = bytearray(binary(0x0200, location(PASSWORD_EVENT)))
        frame[16] ^= 1
        self.check(bytes(frame), b"(794308010679,P43,427819,\xff)")
        self.assertEqual(set(self.gateway.counters.malformed), {"check", "sentence", "garbage"})
        self.assertTrue(any("malformed" in line for line in self.lines))

    def test_sentences(self) -> None:
        """Passwords in sentences; the dynamic one is kept for unlocking."""
        contents = self.check(
            b"(794308010679,1,001,ELOCK,3,529439)",
            b"(794308010679,P44,1,427819)",
            b"(794308010679,P06,host,1234,apn,user,apnpass)",
        )
        kept = [content[5][3] for content in contents if content[0] and content[5]]
        self.assertEqual(kept, ["529439", None, None])

    def test_error(self) -> None:
        """An error while a message with a password is handled."""
        self.fleet.feed(self.link, heartbeat())

        class Executor:
            def process_message(self, message: Any, moment: Any) -> None:
                raise RuntimeError("a bug of ours")

        session = self.gateway.sessions.get(DEVICE)
        assert session is not None
        session.executor = Executor()  # type: ignore[assignment]
        try:
            self.fleet.feed(self.link, binary(0x0200, location(PASSWORD_EVENT)))
        except RuntimeError:
            self.link.connection.log.failure("as the transport does it")
        self.check()
        self.flushLoggedErrors(RuntimeError)
