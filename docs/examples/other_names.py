"""Write the locations of all locks with the names of another platform: python other_names.py traccar|plaspy

A line of JSON each. The tables are those of docs/migrating.rst.
"""

import json
import os
import sys
from typing import Any

from jt709c_gateway.client import Client, Event

#: Our field of a location, theirs ("attributes." before Traccar's attributes), and how it is converted.
KNOTS_PER_KMH, MS_PER_KMH = 1 / 1.852, 1 / 3.6
TRACCAR = (
    ("time", "fixTime", None),
    ("latitude", "latitude", None),
    ("longitude", "longitude", None),
    ("altitude_m", "altitude", None),
    ("speed_kmh", "speed", lambda kmh: kmh * KNOTS_PER_KMH),
    ("course_deg", "course", None),
    ("satellites", "attributes.sat", None),
    ("gsm_signal", "attributes.rssi", None),
    ("battery_percent", "attributes.batteryLevel", None),
    ("battery_volts", "attributes.battery", None),
    ("charging", "attributes.charge", None),
    ("odometer_km", "attributes.odometer", lambda km: km * 1000),
    ("lock_state", "attributes.lock", lambda state: state == "locked"),
)
PLASPY = (
    ("time", "dateTime", None),
    ("latitude", "latitude", None),
    ("longitude", "longitude", None),
    ("speed_kmh", "speed", lambda kmh: kmh * MS_PER_KMH),
    ("course_deg", "course", None),
    ("battery_percent", "battery", None),
    ("temperature_c", "temperature", None),
    ("odometer_km", "milleage", None),
)
#: Our alarms and those of Traccar; what it has no name for is "general". Of ours Plaspy has only SpeedLimit.
TRACCAR_ALARMS = {
    "overspeed": "overspeed",
    "low_battery": "lowBattery",
    "back_cover_opened": "tampering",
    "fence_entered": "geofenceEnter",
    "fence_left": "geofenceExit",
    "rope_cut": "tampering",
    "vibration": "vibration",
    "tampered": "tampering",
    "motor_stuck": "fault",
}


def _renamed(table: Any, data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for ours, theirs, convert in table:
        value = data.get(ours)
        if value is not None:
            where, _, name = theirs.rpartition(".")
            target = found.setdefault(where, {}) if where else found
            target[name] = value if convert is None else convert(value)
    return found


def traccar(event: Event) -> dict[str, Any]:
    """A location as a position in Traccar's API has it; the device is by its unique id."""
    position = _renamed(TRACCAR, event.data)
    attributes = position.setdefault("attributes", {})
    alarms = sorted({TRACCAR_ALARMS.get(name, "general") for name in event.data["alarms"]})
    if alarms:
        attributes["alarm"] = ",".join(alarms)
    if event.stored:
        attributes["archive"] = True
    return {
        "uniqueId": event.imei or event.device,
        "protocol": event.dialect,
        "serverTime": event.received_at,
        "deviceTime": event.data["time"],
        "valid": event.data["fix"] == "gnss",
        **position,
    }


def plaspy(event: Event) -> dict[str, Any]:
    """A location as Plaspy's API has it; the lock's state, for which it has no name, is an attribute."""
    return {
        "idDevice": event.imei or event.device,
        **_renamed(PLASPY, event.data),
        "attributes": {name: event.data[name] for name in ("lock_state", "rope_open", "alarms")},
    }


if __name__ == "__main__":
    rename = {"traccar": traccar, "plaspy": plaspy}[sys.argv[1]]
    with Client(os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379")) as client:
        for event in client.events.consume(group=sys.argv[1], kinds=("location",)):
            print(json.dumps(rename(event)), flush=True)
