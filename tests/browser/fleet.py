"""Stores a fleet in Redis, without locks."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from tests.support.commands import CommandClient

FIRST = 794308600000
_ALARMS = ("low_battery", "rope_cut", "vibration")


def _location(number: int, when: str) -> dict[str, Any]:
    return {
        "time": when,
        "fix": "gnss",
        "latitude": round(36 + (number * 7919 % 10_000) / 400, 6),
        "longitude": round(-9 + (number * 104_729 % 10_000) / 250, 6),
        "speed_kmh": float(number % 90),
        "course_deg": float(number % 360),
        "gsm_signal": number % 32,
        "rope_open": False,
        "charging": False,
    }


def store_lock(
    client: CommandClient,
    device: str,
    place: tuple[float, float],
    lock_state: str = "locked",
    alarms: tuple[str, ...] = (),
    age: float = 0,
) -> None:
    """Store a lock at a latitude and longitude that was seen so many seconds ago, and is offline."""
    seen = time.time() - age
    when = datetime.fromtimestamp(seen, UTC).isoformat().replace("+00:00", "Z")
    location = {**_location(0, when), "latitude": place[0], "longitude": place[1]}
    fields = {
        "seen": when,
        "location": json.dumps(location),
        "lock_state": lock_state,
        "alarms": json.dumps(alarms),
    }
    client.redis.call(
        "HSET", client.key("device", device), *[part for pair in fields.items() for part in pair]
    )
    client.redis.call("ZADD", client.key("devices"), seen, device)


def store_fleet(client: CommandClient, count: int) -> list[str]:
    """Store so many locks and return their ids.

    Every second is unlocked, every tenth has an alarm, three of four are online.
    """
    now = time.time()
    devices = []
    for number in range(count):
        device = str(FIRST + number)
        seen = now - number * 3
        when = datetime.fromtimestamp(seen, UTC).isoformat().replace("+00:00", "Z")
        alarms = [_ALARMS[number // 10 % 3]] if number % 10 == 0 else []
        fields = {
            "seen": when,
            "dialect": "jt709",
            "imei": f"86{number:013d}",
            "firmware": "JT709C_1.0",
            "location": json.dumps(_location(number, when)),
            "lock_state": "unlocked" if number % 2 else "locked",
            "battery_percent": number * 37 % 101,
            "alarms": json.dumps(alarms),
        }
        client.redis.call(
            "HSET", client.key("device", device), *[part for pair in fields.items() for part in pair]
        )
        client.redis.call("ZADD", client.key("devices"), seen, device)
        if number % 4:
            session = (
                "gateway",
                f"gw{number % 3}",
                "transport",
                "tcp",
                "peer",
                f"198.51.100.7:{number % 60_000}",
            )
            client.redis.call(
                "HSET", client.key("session", device), *session, "since", when, "token", "gw/1-1"
            )
        devices.append(device)
    return devices
