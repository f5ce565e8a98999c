"""The gist of an event in one line, for people (DESIGN.md §3)."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.text import Text

from jt709c_gateway.cli.output import plain

#: Colour of each kind.
STYLES: Final[Mapping[str, str]] = {
    "location": "cyan",
    "lock": "bold yellow",
    "alarm": "bold red",
    "heartbeat": "dim",
    "reply": "magenta",
    "password": "magenta",
    "session": "blue",
    "command": "green",
    "unknown": "red",
}
_DEVICE_WIDTH: Final = 15
_KIND_WIDTH: Final = 12


def line(event: Mapping[str, Any]) -> Text:
    """One event, decoded from JSON, as a line: time, device, kind, gist."""
    kind = plain(event.get("kind"))
    data = event.get("data")
    when = plain(event.get("received_at") or "")[11:19] or "--:--:--"
    style = STYLES.get(kind, "")
    text = Text(no_wrap=True, overflow="ignore", end="")
    text.append(when, "dim")
    text.append(f"  {plain(event.get('device')):<{_DEVICE_WIDTH}}  ")
    text.append(f"{kind:<{_KIND_WIDTH}}", style)
    text.append("  " + gist(kind, data if isinstance(data, dict) else {}))
    if event.get("stored"):
        text.append("  (stored)", "dim")
    return text


def gist(kind: str, data: Mapping[str, Any]) -> str:
    """What an event of this kind says, shortly; what is null is left out."""
    return "  ".join(plain(part) for part in _GISTS.get(kind, _other)(data) if part not in (None, ""))


def _place(data: Mapping[str, Any]) -> str | None:
    latitude, longitude = data.get("latitude"), data.get("longitude")
    return None if latitude is None or longitude is None else f"{latitude},{longitude}"


def _unit(value: Any, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"


def _location(data: Mapping[str, Any]) -> list[Any]:
    alarms = data.get("alarms") or []
    return [
        _place(data),
        None if data.get("fix") == "gnss" else f"fix {data.get('fix')}",
        _unit(data.get("speed_kmh"), "km/h"),
        data.get("lock_state"),
        _unit(data.get("battery_percent"), "%"),
        f"alarms {', '.join(map(str, alarms))}" if alarms else None,
    ]


def _lock(data: Mapping[str, Any]) -> list[Any]:
    return [
        data.get("action"),
        f"by {data.get('method')}",
        _named("card", data.get("card")),
        _named("fence", data.get("fence_id")),
        _named("sub-lock", data.get("peripheral")),
        _place(data),
        _named("order", data.get("command_id")),
    ]


def _named(name: str, value: Any) -> str | None:
    return None if value is None else f"{name} {value}"


def _alarm(data: Mapping[str, Any]) -> list[Any]:
    return [data.get("name"), "raised" if data.get("active") else "cleared", _place(data)]


def _heartbeat(data: Mapping[str, Any]) -> list[Any]:
    return [_unit(data.get("battery_percent"), "%"), _named("signal", data.get("gsm_signal"))]


def _reply(data: Mapping[str, Any]) -> list[Any]:
    words = [data.get("word"), *(data.get("arguments") or [])]
    return [",".join(map(str, words)), _named("order", data.get("command_id"))]


def _session(data: Mapping[str, Any]) -> list[Any]:
    return [data.get("state"), data.get("reason"), _unit(data.get("duration_s"), "s")]


def command(data: Mapping[str, Any]) -> list[Any]:
    """The parts of the gist of an order's state."""
    return [
        data.get("command"),
        _named("sub-lock", data.get("peripheral")),
        data.get("id"),
        data.get("state"),
        data.get("reason"),
        *answer(data.get("answer")),
        "(assumed form)" if data.get("assumed") else None,
    ]


def answer(given: Any) -> list[str]:
    """What the lock said to an order: the arguments of its sentence, or the data it was asked for."""
    if not isinstance(given, dict):
        return []
    said = ",".join(map(str, given.get("arguments") or []))
    content = given.get("data")
    return [text for text in (said, json.dumps(content, ensure_ascii=False) if content else "") if text]


def _other(data: Mapping[str, Any]) -> list[Any]:
    return [f"{name} {value}" for name, value in data.items() if value is not None]


_GISTS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[Any]]]] = {
    "location": _location,
    "lock": _lock,
    "alarm": _alarm,
    "heartbeat": _heartbeat,
    "reply": _reply,
    "password": lambda data: ["a dynamic password was reported"],
    "session": _session,
    "command": command,
}
