"""commit.lua against a real server: what one batch leaves in Redis (docs/redis.rst)."""

import json
from datetime import timedelta
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.commit_records import EventsRecord
from jt709c_gateway.redis.committer import Limits
from tests.support import key_prefix, shared_server
from tests.support.committer import NOW, Script, Teller
from tests.vectors import binary, location

DEVICE = "794308010679"
OTHER = bytes.fromhex("794308010680")
LOW_BATTERY, FENCE = 1 << 7, 1 << 17
#: A lock event as item 0x0B: a card that was accepted.
CARD = bytes.fromhex("0b062200623a8900")


def report(serial: int = 1, wire: bytes | None = None, items: bytes = b"", **changes: Any) -> bytes:
    extra = {} if wire is None else {"wire": wire}
    return binary(0x0200, location(items, **changes), serial, **extra)


class ScriptCase(SynchronousTestCase):
    limits = Limits()

    def setUp(self) -> None:
        self.client = shared_server().client()
        self.addCleanup(self.client.close)
        self.script = Script(self.client, key_prefix(), self.limits)
        self.keys = self.script.keys
        self.teller = Teller()

    def commit(self, *frames: bytes) -> Any:
        return self.script.commit(self.teller.contents(*frames))

    def device(self) -> dict[str, str]:
        return self.script.hash(self.keys.device(DEVICE))


class EverythingItWritesTests(ScriptCase):
    def test_channels(self) -> None:
        """Every event is published once, on the channel of its kind and device."""
        with shared_server().client() as listener:
            for pattern in (self.keys.channel("*", "*"), self.keys.channel("lock", "*")):
                listener.call("PSUBSCRIBE", pattern)
            self.commit(report(items=CARD))
            messages = [listener.read() for _ in range(4)]
        heard = [(one[1].decode(), one[2].decode()) for one in messages]
        every, locks = self.keys.channel("*", "*"), self.keys.channel("lock", "*")
        self.assertEqual(
            sorted(heard),
            sorted(
                [
                    (every, self.keys.channel("session", DEVICE)),
                    (every, self.keys.channel("location", DEVICE)),
                    (every, self.keys.channel("lock", DEVICE)),
                    (locks, self.keys.channel("lock", DEVICE)),
                ]
            ),
        )
        published = [json.loads(one[3]) for one in messages if one[1].decode() == every]
        self.assertEqual(published, self.script.events())

    def test_events_stream(self) -> None:
        """The stream has the same events in the order of the frames, each with its kind and device."""
        self.commit(report(items=CARD), binary(0x0002, serial=2))
        entries = self.script.stream(self.keys.events)
        self.assertEqual([one["kind"] for one in entries], ["session", "location", "lock", "heartbeat"])
        self.assertEqual({one["device"] for one in entries}, {DEVICE})
        event = json.loads(entries[1]["event"])
        self.assertEqual((event["v"], event["kind"], event["device"]), (1, "location", DEVICE))
        self.assertEqual(event["received_at"], "2025-11-18T11:30:00Z")
        self.assertEqual(len({json.loads(one["event"])["id"] for one in entries}), 4)

    def test_history(self) -> None:
        """The audit trail of a device has its lock, alarm and command events and nothing else."""
        contents = self.teller.contents(report(items=CARD, alarm_bits=LOW_BATTERY), binary(0x0002))
        command = EventsRecord(device=DEVICE, events=[("command", '{"kind":"command"}')])
        self.script.commit([*contents, command])
        entries = self.script.stream(self.keys.history(DEVICE))
        self.assertEqual(sorted(one["kind"] for one in entries), ["alarm", "command", "lock"])
        self.assertEqual({one["device"] for one in entries}, {DEVICE})
        locks = [one["event"] for one in entries if one["kind"] == "lock"]
        self.assertEqual([json.loads(one) for one in locks], self.script.events("lock"))

    def test_device_hash(self) -> None:
        """The last known state has each field of the contract, the location as it was published."""
        wire = bytes.fromhex("4d8f3c6e1a2b")  # 48 bits: the first 14 digits of an IMEI
        (_, located) = self.teller.contents(
            report(wire=wire, items=bytes.fromhex("d40155"), alarm_bits=LOW_BATTERY)
        )
        self.script.commit([located])
        state = self.script.hash(self.keys.device(located[0]))
        self.assertEqual(state["seen"], "2025-11-18T11:30:00.000000Z")
        self.assertEqual(state["dialect"], "jt709")
        self.assertEqual(state["imei"], located[0])
        self.assertEqual(state["lock_state"], "locked")
        self.assertEqual(state["battery_percent"], "85")
        self.assertEqual(json.loads(state["alarms"]), ["low_battery"])
        (event,) = self.script.events("location")
        self.assertEqual(json.loads(state["location"]), event["data"])
        self.assertEqual(self.client.call("HGET", self.keys.imei, located[0]), located[0].encode())

    def test_firmware(self) -> None:
        """The firmware a lock names is kept, also when a location follows."""
        self.commit(b"(794308010679,1,001,BASE,1,JT709C_V1.2,20250101)", report())
        self.assertEqual(self.device()["firmware"], "JT709C_V1.2,20250101")

    def test_missing_battery(self) -> None:
        """A report without a battery leaves the last known one, and says null in the event."""
        self.commit(report(items=bytes.fromhex("d40155")), report(2))
        self.assertEqual(self.device()["battery_percent"], "85")
        self.assertIsNone(self.script.events("location")[1]["data"]["battery_percent"])

    def test_no_lock_state(self) -> None:
        """A position that says nothing of the lock leaves its last known state, and the rest counts."""
        self.commit(report())
        (content,) = self.teller.reports(report(2, items=bytes.fromhex("d40121")))
        self.assertEqual(content[7], "locked")
        self.assertEqual(self.script.commit([(*content[:7], None, *content[8:])]), 0)
        self.assertEqual(self.device()["lock_state"], "locked")
        self.assertEqual(self.device()["battery_percent"], "33")

    def test_devices(self) -> None:
        """The sorted set has each device by the epoch second it was last heard."""
        self.commit(report())
        self.teller.wall += timedelta(seconds=1.5)
        self.commit(report(2))
        (member, score) = self.client.call("ZRANGE", self.keys.devices, 0, -1, "WITHSCORES")
        self.assertEqual(member, DEVICE.encode())
        self.assertAlmostEqual(float(score), NOW.timestamp() + 1.5, places=3)

    def test_session(self) -> None:
        """The session's hash names gateway, transport, peer and since, and expires."""
        self.commit(report())
        session = self.script.hash(self.keys.session(DEVICE))
        token = session.pop("token")
        self.assertTrue(token)
        self.assertEqual(
            session,
            {
                "gateway": "gw1",
                "transport": "tcp",
                "peer": "192.0.2.7:50112",
                "since": "2025-11-18T11:30:00.000000Z",
            },
        )
        ttl = self.client.call("TTL", self.keys.session(DEVICE))
        self.assertTrue(900 < ttl <= 1020, ttl)

    def test_session_ends(self) -> None:
        """A session's end removes its hash."""
        self.commit(report())
        self.script.commit(self.teller.leaves())
        self.assertEqual(self.script.hash(self.keys.session(DEVICE)), {})

    def test_session_end_of_another(self) -> None:
        """The late end of an older session leaves the hash of the newer one, on another gateway, alone."""
        self.commit(report())
        other = Teller("gw2")
        self.script.commit(other.contents(report(2)), "gw2")
        self.script.commit(self.teller.leaves())
        self.assertEqual(self.script.hash(self.keys.session(DEVICE))["gateway"], "gw2")

    def test_session_kept(self) -> None:
        """A lock that goes on speaking keeps its session's hash, also with a report that came before."""
        self.commit(report())
        key = self.keys.session(DEVICE)
        for frame in (report(2), report(2)):
            self.client.call("EXPIRE", key, 5)
            self.teller.gateway.clock.advance(61)
            self.commit(frame)
            self.assertTrue(self.client.call("TTL", key) > 900)

    def test_secret(self) -> None:
        """A dynamic password stands in a key of its own that expires, and nowhere else."""
        self.commit(b"(794308010679,1,001,ELOCK,3,529439)")
        self.assertEqual(self.client.call("GET", self.keys.secret(DEVICE)), b"529439")
        self.assertTrue(0 < self.client.call("TTL", self.keys.secret(DEVICE)) <= 86400)
        for key in self.client.call("KEYS", f"{self.keys.prefix}:*"):
            if key.decode() != self.keys.secret(DEVICE):
                self.assertNotIn(b"529439", self.client.call("DUMP", key))
        self.assertNotIn("529439", json.dumps(self.script.events()))

    def test_malformed(self) -> None:
        """What could not be read is kept with its peer, the reason, the bytes and the time."""
        frame = bytearray(report())
        frame[20] ^= 1
        self.commit(bytes(frame))
        (entry,) = self.script.stream(self.keys.malformed)
        self.assertEqual(
            entry,
            {
                "peer": "192.0.2.7:50112",
                "reason": "check",
                "raw": frame.hex(),
                "time": "2025-11-18T11:30:00.000000Z",
            },
        )
        self.assertEqual(self.client.call("EXISTS", self.keys.events), 0)


class DuplicateTests(ScriptCase):
    def locations(self) -> int:
        return len(self.script.events("location"))

    def test_same_batch(self) -> None:
        """A report twice in one batch is published once; the reply counts the other."""
        self.assertEqual(self.commit(report(), report()), 1)
        self.assertEqual(self.locations(), 1)

    def test_later_batch(self) -> None:
        """A report in a later batch, after others, is known too."""
        self.commit(report())
        self.commit(*[report(serial) for serial in range(2, 40)])
        self.assertEqual(self.commit(report()), 1)
        self.assertEqual(self.locations(), 39)

    def test_other_gateway(self) -> None:
        """A report that comes again to another gateway is published once."""
        self.commit(report())
        again = Teller("gw2").contents(report())
        self.assertEqual(self.script.commit(again, "gw2", "boot9"), 1)
        self.assertEqual(self.locations(), 1)

    def test_other_device(self) -> None:
        """The same position of another lock is another report."""
        self.assertEqual(self.commit(report(), report(wire=OTHER)), 0)
        self.assertEqual(self.locations(), 2)

    def test_outside_the_last_64(self) -> None:
        """A report is known while it is among the lock's last 64, and new again after that."""
        self.commit(*[report(serial) for serial in range(1, 65)])
        self.assertEqual(self.commit(report(1)), 1)
        self.commit(report(65))
        self.assertEqual(self.commit(report(2)), 1)
        self.assertEqual(self.commit(report(1)), 0)
        self.assertEqual(self.locations(), 66)

    def test_heartbeats(self) -> None:
        """The same heartbeat again is a new one."""
        self.assertEqual(self.commit(binary(0x0002), binary(0x0002)), 0)
        self.assertEqual(len(self.script.events("heartbeat")), 2)

    def test_part_of_a_fingerprint(self) -> None:
        """A fingerprint is known as a whole only, not where two others meet."""
        (content,) = self.teller.reports(report())
        first = "0123456789abcdef"
        for fingerprint, duplicates in ((first, 0), ("fedcba9876543210", 0), ("765432100123456f", 0)):
            one = (content[0], fingerprint, *content[2:])
            self.assertEqual(self.script.commit([one]), duplicates)
        crossing = (content[0], "fedcba9876543210"[8:] + "01234567", *content[2:])
        self.assertEqual(self.script.commit([crossing]), 0)

    def test_repeated_batch(self) -> None:
        """A batch whose number has been applied is answered -1 and writes nothing, whatever it holds."""
        contents = self.teller.contents(report(), binary(0x0002))
        self.script.commit(contents, number=7)
        before = self.script.stream(self.keys.events)
        self.assertEqual(self.script.commit(contents, number=7), -1)
        self.assertEqual(self.script.stream(self.keys.events), before)
        self.assertEqual(self.script.commit(self.teller.contents(binary(0x0002)), number=8), 0)

    def test_numbers_belong_to_a_run(self) -> None:
        """Another run of the same gateway counts anew."""
        self.script.commit(self.teller.contents(binary(0x0002)), number=7)
        again = self.teller.contents(binary(0x0002))
        self.assertEqual(self.script.commit(again, boot="boot2", number=1), 0)
        self.assertEqual(len(self.script.events("heartbeat")), 2)

    def test_what_was_lost_is_noted(self) -> None:
        """A batch that finds less than what was before it notes that, until the next such one."""
        marker = self.keys.commit_marker("gw1", "boot1")

        def noted() -> Any:
            return self.client.call("GET", marker)

        for number, expected in ((1, b"1"), (2, b"2"), (2, b"2")):
            self.script.commit([], number=number)
            self.assertEqual(noted(), expected)
        self.client.call("DEL", marker)
        for number, expected in ((3, b"3 @3"), (4, b"4 @3"), (4, b"4 @3"), (6, b"6 @6")):
            self.script.commit([], number=number)
            self.assertEqual(noted(), expected)

    def test_marker_expires(self) -> None:
        """What a run leaves behind to know its batches by expires."""
        self.commit(report())
        self.assertTrue(self.client.call("TTL", self.keys.commit_marker("gw1", "boot1")) > 0)


class CapTests(ScriptCase):
    limits = Limits(events=100, history=50, malformed=20, devices=30, histories=40)
    #: "About": whole nodes of a stream are dropped.
    NODE = 100

    def length(self, key: str) -> int:
        return self.client.call("XLEN", key)

    def test_streams(self) -> None:
        """Streams stay at about their caps."""
        for start in range(1, 1001, 100):
            self.commit(*[report(serial, items=CARD) for serial in range(start, start + 100)])
        self.assertTrue(100 <= self.length(self.keys.events) <= 100 + self.NODE)
        self.assertTrue(50 <= self.length(self.keys.history(DEVICE)) <= 50 + self.NODE)
        broken = [("", "p", "check", "00", "t")] * 200
        for _ in range(5):
            self.script.commit(broken)
        self.assertTrue(20 <= self.length(self.keys.malformed) <= 20 + self.NODE)

    def test_devices(self) -> None:
        """Of too many devices those heard last stay; of the others nothing is left that doesn't expire."""
        for start in range(0, 400, 100):
            frames = []
            for number in range(start, start + 100):
                # Odd ones have an IMEI.
                wire = bytes.fromhex(f"4d8f3c6e{number:04x}" if number % 2 else f"79430801{number:04d}")
                frames.append(report(wire=wire, items=CARD, alarm_bits=LOW_BATTERY))
            self.teller.wall += timedelta(seconds=1)
            self.commit(*frames)
        self.assertEqual(self.client.call("ZCARD", self.keys.devices), 30)
        stay = {one.decode() for one in self.client.call("ZRANGE", self.keys.devices, 0, -1)}
        imeis = {one for one in stay if not one.startswith("79430801")}
        self.assertTrue(imeis)
        self.assertEqual(set(self.script.hash(self.keys.imei)), imeis)
        left: dict[str, int] = {}
        for key in self.client.call("KEYS", f"{self.keys.prefix}:*"):
            if self.client.call("TTL", key) == -1:
                kind = key.decode().split(":")[1]
                left[kind] = left.get(kind, 0) + 1
        self.assertEqual(
            left,
            {
                "events": 1,
                "devices": 1,
                "imei": 1,
                "device": 30,
                "history": 40,
                "histories": 1,
                "let_go": 1,
                "track": 30,
                "sessions": 1,
            },
        )

    def test_age(self) -> None:
        """Events beyond the age leave the stream, if asked."""
        self.script.limits = Limits(max_age_ms=3_600_000)
        seconds, _ = self.client.call("TIME")
        old = (int(seconds) - 7200) * 1000
        for number in range(250):
            self.client.call("XADD", self.keys.events, f"{old}-{number + 1}", "kind", "x")
        self.commit(report())
        self.assertTrue(self.length(self.keys.events) <= self.NODE + 2)
        self.assertEqual(len(self.script.events("location")), 1)
