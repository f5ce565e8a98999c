"""The yardstick: what somebody might write in an afternoon, with asyncio and redis-py.

It cuts frames, checks and decodes reports, publishes each with PUBLISH and XADD in one round trip, and then
answers. It knows no sessions, repeated reports, alarms or last known states, sends no commands, and a lock
that goes silent stays connected. `end_to_end.py --naive` runs it.
"""

import argparse
import asyncio
import json
import struct
from datetime import UTC, datetime
from functools import reduce
from operator import xor
from typing import Any

from common import LOOPBACK, positive, run

try:
    from redis.asyncio import BlockingConnectionPool, Redis
except ImportError:
    raise SystemExit("naive.py: no redis-py; pip install '.[benchmark]'") from None

_LOCATION, _ANSWER = 0x0200, 0x8001
_POOL = 32
_STREAM, _LENGTH = "jt709c:events", 100_000
_BODY = struct.Struct(">IIIIHHH6s")
_SOUTH, _WEST = 1 << 2, 1 << 3


def unescape(frame: bytes) -> bytes:
    """Undo the escapes of a frame."""
    return frame.replace(b"\x7d\x02", b"\x7e").replace(b"\x7d\x01", b"\x7d")


def escape(payload: bytes) -> bytes:
    """Make a frame of a payload."""
    payload += bytes([reduce(xor, payload)])
    return b"\x7e" + payload.replace(b"\x7d", b"\x7d\x01").replace(b"\x7e", b"\x7d\x02") + b"\x7e"


def decode(body: bytes) -> dict[str, Any]:
    """The fields of a location, and its items as hex."""
    alarms, status, latitude, longitude, altitude, speed, course, time = _BODY.unpack_from(body)
    items, at = {}, _BODY.size
    while at + 2 <= len(body):
        length = body[at + 1]
        items[f"{body[at]:02x}"] = body[at + 2 : at + 2 + length].hex()
        at += 2 + length
    return {
        "time": datetime.strptime(time.hex(), "%y%m%d%H%M%S").replace(tzinfo=UTC).isoformat(),
        "alarms": alarms,
        "status": status,
        "latitude": (-latitude if status & _SOUTH else latitude) / 1e6,
        "longitude": (-longitude if status & _WEST else longitude) / 1e6,
        "altitude_m": altitude,
        "speed_kmh": speed / 10,
        "course_deg": course,
        "items": items,
    }


class Server:
    """Serves locks, and publishes what they say."""

    def __init__(self, port: int) -> None:
        # More connections would only wait for each other in Redis.
        self._redis = Redis(
            connection_pool=BlockingConnectionPool(host=LOOPBACK, port=port, max_connections=_POOL)
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one lock until it hangs up."""
        try:
            while True:
                await reader.readuntil(b"\x7e")
                answer = await self.handle((await reader.readuntil(b"\x7e"))[:-1])
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def handle(self, frame: bytes) -> bytes | None:
        """Publish a frame and return its answer; None for one that is damaged."""
        payload = unescape(frame)
        if len(payload) < 13 or reduce(xor, payload):
            return None
        message, _, terminal, serial = struct.unpack_from(">HH6sH", payload)
        device = terminal.hex()
        if message == _LOCATION:
            event = {
                "kind": "location",
                "device": device,
                "serial": serial,
                "received_at": datetime.now(UTC).isoformat(),
                "raw": frame.hex(),
                "data": decode(payload[12:-1]),
            }
            text = json.dumps(event)
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.publish(f"jt709c:event:location:{device}", text)
                fields: Any = {"kind": "location", "device": device, "event": text}
                pipeline.xadd(_STREAM, fields, maxlen=_LENGTH)
                await pipeline.execute()
        head = struct.pack(">HH6sH", _ANSWER, 5, terminal, serial)
        return escape(head + struct.pack(">HHB", serial, message, 0))


async def serve(port: int, redis: int) -> None:
    """Listen until ended."""
    listening = await asyncio.start_server(Server(redis).serve, LOOPBACK, port, backlog=4096)
    print("{}", flush=True)
    await listening.serve_forever()


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--port", type=positive, required=True, help="port on the loopback interface")
    parser.add_argument("--redis", type=positive, required=True, help="port of a Redis on this machine")
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.redis))


if __name__ == "__main__":
    run(main)
