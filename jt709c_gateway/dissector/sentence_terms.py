"""The meanings of the words of sentences, and the names of their arguments (docs/protocol.rst §2-§4)."""

from collections.abc import Mapping
from typing import Final

#: `Pnn` words. One word serves the command and its reply.
PNN: Final[Mapping[str, str]] = {
    "@JT": "heartbeat",
    "P01": "firmware",
    "P02": "position",
    "P03": "deep sleep",
    "P04": "report intervals",
    "P06": "server and access point",
    "P10": "time zone of SMS",
    "P11": "VIP number",
    "P12": "numbers that get SMS",
    "P13": "factory reset",
    "P14": "IMEI",
    "P15": "restart",
    "P22": "time",
    "P24": "fence",
    "P29": "nodes of a fence",
    "P30": "delete a fence",
    "P31": "fences are configured",
    "P32": "sleep",
    "P35": "acknowledgement to an older unit",
    "P37": "vibration",
    "P38": "open too long",
    "P39": "second alarm of an open lock",
    "P40": "alarms on or off",
    "P41": "RFID cards",
    "P42": "cards registered at the lock",
    "P43": "unlock with the static password",
    "P44": "static password",
    "P45": "lock report",
    "P46": "acknowledgement of a lock report to an older unit",
    "P50": "power key",
    "P52": "dynamic password",
    "P54": "tracking mode",
    "P58": "cards only inside a fence",
    "P59": "channels that may unlock",
    "P61": "low battery",
    "P62": "mileage",
    "P63": "drift",
    "P65": "alias",
    "P68": "SIM",
    "P69": "acknowledgement",
    "P70": "waking by call and SMS",
    "P83": "locks itself",
    "P94": "fields of lock reports",
    "P97": "GNSS saving",
    "P98": "reports that wait",
    "P99": "corners",
}
#: The grouped form, by group and number. ELOCK commands are undocumented, so they are not listed.
GROUPS: Final[Mapping[tuple[str, ...], str]] = {
    ("BASE", "1"): "firmware",
    ("BASE", "2"): "time",
    ("BASE", "11"): "debug",
    ("GSENS", "2"): "vibration",
    ("ELOCK", "1"): "unlock (assumed)",
    ("ELOCK", "3"): "dynamic password (assumed)",
    ("OTA", "9"): "firmware over FTP",
    ("WLNET", "1"): "bound sub-locks",
    ("WLNET", "4"): "firmware of sub-locks",
    ("WLNET", "2"): "interval of sensors",
    ("WLNET", "5"): "report of a sub-lock or sensor",
    ("WLNET", "7"): "report of a sub-lock or sensor",
    ("WLNET", "8"): "unlock a sub-lock",
    ("WLNET", "18"): "heartbeat of sub-locks",
}

#: Names of arguments by the beginning of a sentence; the longest match counts.
Names = Mapping[tuple[str, ...], tuple[str, ...]]

LOCK_REPORT: Final = (
    "date", "time", "latitude", "north_south", "longitude", "east_west", "fix", "speed_kmh", "course_deg",
    "code", "result", "card", "password_ok", "wrong_tries", "serial", "odometer_km",
    "imei", "fence_id", "cell",
)  # fmt: skip
UP: Final[Names] = {
    ("P01",): ("firmware", "battery_percent"),
    ("P14",): ("imei",),
    ("P22",): ("taken",),
    ("P22", "2"): ("operation",),
    ("P24",): ("fence_id", "on", "name"),
    ("P29",): ("fence_id", "nodes", "page", "count", "place"),
    ("P30",): ("done",),
    ("P42",): ("count", "card"),
    ("P98", "10", "0"): ("kind", "operation", "records_waiting"),
    ("P43",): ("result", "wrong_tries"),
    ("P45",): LOCK_REPORT,
    ("P52", "0"): ("operation", "last_password", "current_password"),
    ("P52", "1"): ("operation", "on", "only_in_fence"),
    ("P52", "2"): ("operation", "password"),
    ("P52", "3"): ("operation", "result", "wrong_tries"),
    ("P54",): ("operation", "on"),
}
DOWN: Final[Names] = {
    ("P04", "1"): ("operation", "awake_s", "asleep_min"),
    ("P06", "1"): ("operation", "host", "port", "apn", "apn_user", "apn_password"),
    ("P22",): ("time",),
    ("P24", "1"): ("operation", "fence_id", "on", "name"),
    ("P29", "1"): ("operation", "fence_id", "page", "count", "place"),
    ("P30",): ("fence_id",),
    ("P38", "1"): ("operation", "minutes"),
    ("P41", "0"): ("operation", "group"),
    ("P41", "1"): ("operation", "action", "count", "card"),
    ("P43",): ("password",),
    ("P44",): ("new_password", "old_password"),
    ("P44", "1"): ("operation",),
    ("P52", "1", "1"): ("operation", "set", "on", "only_in_fence"),
    ("P52", "2"): ("operation", "password"),
    ("P52", "3"): ("operation", "password"),
    ("P54", "1"): ("operation", "on"),
    ("P59", "1"): ("operation", "sms", "gprs", "rfid", "serial", "bluetooth"),
    ("P61", "1"): ("operation", "percent"),
    ("P69",): ("operation", "serial"),
}
GROUPED: Final[Names] = {
    ("BASE", "1"): ("number", "firmware"),
    ("BASE", "2"): ("number", "time"),
    ("ELOCK", "3"): ("number", "password"),
    ("WLNET", "1", "1"): ("number", "function", "count", "peripheral"),
    ("WLNET", "5"): ("number", "function"),
    ("WLNET", "7"): ("number", "function"),
    ("WLNET", "8", "1", "1"): ("number", "function", "count", "minutes", "peripheral"),
    ("WLNET", "18", "1"): ("number", "function", "heartbeat_s", "alarm_s"),
}
#: Arguments that may be repeated at the end.
REPEATED: Final = frozenset({"card", "peripheral", "place"})
#: Sources of a P45 that say more than the method of the event.
LOCK_REPORT_SOURCES: Final[Mapping[int, str]] = {
    2: "illegal card",
    3: "a vehicle card is registered",
    8: "rope pulled out",
}
#: Meanings of values, by name of the argument.
MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "fix": {"A": "fix", "V": "no fix"},
    "north_south": {"N": "north", "S": "south"},
    "east_west": {"E": "east", "W": "west"},
    "on": {"1": "on", "0": "off"},
    "password_ok": {"1": "yes", "0": "no"},
    "only_in_fence": {"1": "yes", "0": "no"},
    "taken": {"1": "yes", "0": "no, it has a fix"},
    "done": {"1": "yes", "0": "no"},
}
#: Meanings of the results of unlock commands.
UNLOCKED: Final[Mapping[str, str]] = {"1": "opened", "0": "refused"}
#: Units of arguments, by name.
UNITS: Final[Mapping[str, str]] = {
    "speed_kmh": " km/h",
    "odometer_km": " km",
    "battery_percent": " %",
    "percent": " %",
    "course_deg": "°",
    "minutes": " min",
    "asleep_min": " min",
    "awake_s": " s",
    "heartbeat_s": " s",
    "alarm_s": " s",
}


def named(forms: Names, starts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the arguments of a sentence with this beginning; empty if undocumented."""
    for length in range(len(starts), 0, -1):
        if names := forms.get(starts[:length]):
            return names
    return ()
