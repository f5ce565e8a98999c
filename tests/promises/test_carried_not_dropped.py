"""Promise 3: unknown input is published, not dropped."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.jt808 import pack
from tests.support import RedisClient, key_prefix, wait_until
from tests.support.daemon import Daemon
from tests.support.partitioned import shared_store
from tests.support.reporter import stream_events
from tests.vectors import binary, location

UNKNOWN_MESSAGE = binary(0x0F42, b"\x01\x02\x03\xff", serial=11)
UNKNOWN_ITEM = binary(0x0200, location(bytes.fromhex("ee034a4b4c")), serial=12)
UNKNOWN_CODE = binary(0x0200, location(bytes.fromhex("0b0377aabb")), serial=13)
ODD_LENGTH = binary(0x0200, location(bytes.fromhex("d403111213")), serial=14)
UNKNOWN_ALARM = binary(0x0200, location(alarm_bits=1 << 30), serial=15)
TOO_SHORT = binary(0x0200, b"\x01\x02", serial=16)
UNKNOWN_WORD = b"(794308010679,1,017,NEWS,9,what,is,this)"
#: Attribute bits 10 to 12 say that the body is encrypted.
ENCRYPTED = pack(bytes.fromhex("0200 0404 794308010679 0012 01020304"))
BROKEN = b"\x7e" + b"\x02\x00 not a frame at all" + b"\x7e"


class CarriedNotDroppedTests(SynchronousTestCase):
    daemon: Daemon
    client: RedisClient

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.prefix = key_prefix()
        cls.daemon = Daemon("--prefix", cls.prefix, redis=shared_store(cls.prefix).url).start()
        cls.client = shared_store(cls.prefix).client()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()
        cls.daemon.discard()
        super().tearDownClass()

    def hear(self, frame: bytes, answers: int = 1) -> list[dict[str, Any]]:
        """Return the events of a frame, which is answered so many times."""
        before = len(stream_events(self.client, self.prefix))
        with self.daemon.lock() as lock:
            lock.send(frame)
            self.assertEqual(len(lock.answers(answers)), answers)
            events = wait_until(lambda: stream_events(self.client, self.prefix)[before:])
            wait_until(lambda: stream_events(self.client, self.prefix)[before + 1 :])
            events = stream_events(self.client, self.prefix)[before:]
        wait_until(lambda: not self.client.call("EXISTS", f"{self.prefix}:session:794308010679"))
        self.assertEqual(
            [event["data"]["state"] for event in events if event["kind"] == "session"], ["online"]
        )
        return [event for event in events if event["kind"] not in ("session", "alarm")]

    def test_unknown_message(self) -> None:
        """A message with an unknown id is published with its bytes, and answered."""
        (event,) = self.hear(UNKNOWN_MESSAGE)
        self.assertEqual((event["kind"], event["raw"]), ("unknown", UNKNOWN_MESSAGE.hex()))
        self.assertEqual(event["data"]["message_id"], "0f42")

    def test_unknown_item(self) -> None:
        """An unknown item is published in hex under its id, and the rest of the report is decoded."""
        (event,) = self.hear(UNKNOWN_ITEM)
        self.assertEqual((event["kind"], event["data"]["items"]), ("location", {"ee": "4a4b4c"}))
        self.assertEqual(event["data"]["altitude_m"], 92)

    def test_unknown_lock_event(self) -> None:
        """A lock event with an unknown code is published with the code and its bytes."""
        events = self.hear(UNKNOWN_CODE)
        (event,) = [one for one in events if one["kind"] == "lock"]
        self.assertEqual((event["data"]["code"], event["data"]["action"]), (0x77, "unknown"))
        self.assertEqual(event["data"]["value"], "aabb")

    def test_odd_length(self) -> None:
        """An item of unexpected length is kept as hex."""
        (event,) = self.hear(ODD_LENGTH)
        self.assertEqual((event["data"]["items"], event["data"]["battery_percent"]), ({"d4": "111213"}, None))

    def test_unknown_alarm(self) -> None:
        """An unknown alarm bit is published by its number."""
        events = self.hear(UNKNOWN_ALARM)
        (located,) = [one for one in events if one["kind"] == "location"]
        self.assertEqual(located["data"]["alarms"], ["bit_30"])

    def test_too_short(self) -> None:
        """A report with an unreadable body is published with its bytes, and answered."""
        (event,) = self.hear(TOO_SHORT)
        self.assertEqual((event["kind"], event["raw"]), ("unknown", TOO_SHORT.hex()))

    def test_encrypted(self) -> None:
        """The same for an encrypted body."""
        (event,) = self.hear(ENCRYPTED)
        self.assertEqual((event["kind"], event["raw"]), ("unknown", ENCRYPTED.hex()))

    def test_unknown_word(self) -> None:
        """A sentence with an unknown word is published with all its fields."""
        (event,) = self.hear(UNKNOWN_WORD, answers=0)
        self.assertEqual((event["kind"], event["raw"]), ("reply", UNKNOWN_WORD.decode()))
        self.assertEqual(
            (event["data"]["word"], event["data"]["arguments"]), ("NEWS", ["9", "what", "is", "this"])
        )

    def test_broken(self) -> None:
        """A malformed frame is kept with its bytes and the reason, and the next frame is read."""
        with self.daemon.lock() as lock:
            lock.send(BROKEN, binary(0x0002))
            lock.answers(1)
        entries = self.client.call("XRANGE", f"{self.prefix}:malformed", "-", "+")
        self.assertIn(BROKEN.hex().encode(), [fields[5] for _, fields in entries])
        wait_until(lambda: not self.client.call("EXISTS", f"{self.prefix}:session:794308010679"))

    def test_over_udp(self) -> None:
        """The same over UDP: readable parts of a datagram are published, the rest is kept."""
        before = len(self.client.call("XRANGE", f"{self.prefix}:malformed", "-", "+"))
        frame = binary(0x0F43, b"\x01", serial=99, wire=bytes.fromhex("794308010680"))
        with self.daemon.datagrams() as socket:
            socket.send(frame + b"\x7e\x02rest")
            self.assertTrue(socket.recv(100))
        events = stream_events(self.client, self.prefix)
        self.assertIn(frame.hex(), [event["raw"] for event in events if event["transport"] == "udp"])
        wait_until(
            lambda: len(self.client.call("XRANGE", f"{self.prefix}:malformed", "-", "+")) == before + 1
        )
