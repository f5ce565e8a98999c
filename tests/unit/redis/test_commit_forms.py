"""commit.lua against a real server: the short form of a record leaves the same as the long one."""

from datetime import timedelta
from typing import Any

from jt709c_gateway.redis.commit_records import PositionRecord
from tests.support import key_prefix
from tests.support.committer import NOW, Script
from tests.unit.redis.test_commit_script import CARD, FENCE, LOW_BATTERY, ScriptCase, report
from tests.vectors import MOMENT, binary, location


def at_length(content: tuple[Any, ...]) -> tuple[Any, ...]:
    """A record in the form that fits every message, if it has the one for a position and nothing else."""
    if len(content) != len(PositionRecord.__struct_fields__):
        return content
    device, known_by, seen, epoch, text, dialect, imei, *location, token = content
    state = (dialect, imei, None, None, [(0, *location)])
    return (device, known_by, seen, epoch, [("location", text)], state, None, None, None, token)


class TwoFormsTests(ScriptCase):
    """A report with a position and nothing else has a form of its own, and leaves the same as the other."""

    def left_behind(self, script: Script) -> list[Any]:
        """All that is in Redis under a prefix, but for the ids of stream entries."""
        prefix = script.keys.prefix
        reads: dict[bytes, tuple[Any, ...]] = {
            b"hash": ("HGETALL",),
            b"string": ("GET",),
            b"list": ("LRANGE", 0, -1),
            b"set": ("SMEMBERS",),
            b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
        }
        found: list[Any] = []
        for key in sorted(self.client.call("KEYS", prefix + ":*")):
            if key.decode() == script.keys.histories:
                # Their scores are the moments at which they began.
                found.append(self.client.call("ZRANGE", key, 0, -1))
                continue
            kind = self.client.call("TYPE", key)
            kind = kind.encode() if isinstance(kind, str) else kind
            if kind == b"stream":
                value = script.stream(key.decode())
            else:
                command, *rest = reads[kind]
                value = self.client.call(command, key, *rest)
            found.append((key.decode()[len(prefix) :], value))
        return found

    def test_the_same(self) -> None:
        """Alarms that begin and end, times that are impossible, old or ahead, an IMEI, a repetition."""
        later = MOMENT + timedelta(seconds=20)
        imei = bytes.fromhex("4d8f3c6e1a2b")
        body = location()
        undated = binary(0x0200, body[:22] + b"\x99" * 6 + body[28:], 5)
        batches = [
            self.teller.contents(*frames)
            for frames in (
                [report(), report(2, alarm_bits=LOW_BATTERY, time=later), report(2, wire=imei)],
                [report(3, alarm_bits=LOW_BATTERY | FENCE, time=later), report(3, alarm_bits=FENCE)],
                [report(), report(4, time=NOW + timedelta(days=1)), undated],
                [report(6, items=CARD), report(7, items=bytes.fromhex("d40121")), report(7, wire=imei)],
            )
        ]
        short = sum(at_length(content) is not content for batch in batches for content in batch)
        self.assertGreater(short, 8)
        other = Script(self.client, key_prefix(), self.limits)
        for batch in batches:
            self.assertEqual(self.script.commit(batch), other.commit([at_length(one) for one in batch]))
        self.assertEqual(self.left_behind(self.script), self.left_behind(other))
        self.assertEqual(len(self.script.events("alarm")), 4)
