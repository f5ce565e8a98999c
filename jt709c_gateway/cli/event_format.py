"""Formats an event as a line for people (docs/redis.rst, "Events")."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.text import Text

from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.time_format import parse, time_of_day
from jt709c_gateway.commands.model import ENDED

#: Colour of each kind.
STYLES: Final[Mapping[str, str]] = {
    "location": "cyan",
    "lock": "bold yellow",
    "alarm": "bold red",
    "heartbeat": "dim",
    "reply": "magenta",
    "password": "magenta",
    "session": "blue",
    "peripheral": "cyan",
    "command": "green",
    "unknown": "red",
}
#: Flags of a sub-lock, shown only if set.
_FLAGS: Final = ("contact_lost", "low_voltage", "rope_open", "back_cover_open")
#: Columns of the terminal by which the rest of a long line is indented.
INDENT: Final = 11
_DEVICE_WIDTH: Final = 15
_KIND_WIDTH: Final = 12
#: States of commands that move the lock; `acknowledged`, which comes before them, has the same answer.
_AFTER_ANSWER: Final = frozenset(["confirmed", "unconfirmed"])
_GOOD: Final = frozenset(["done", "confirmed"])
_SAID_ABOVE: Final = {"command": None, "peripheral": None, "id": None}


def line(event: Mapping[str, Any], local: bool = False, name: str | None = None) -> Text:
    """Format an event as a line: time in UTC or local, device, its name if it has one, kind, summary."""
    kind = plain(event.get("kind"))
    data = event.get("data")
    text = Text(no_wrap=True, overflow="ignore", end="")
    text.append(time_of_day(parse(event.get("received_at")), local), "dim")
    text.append(f"  {plain(event.get('device')):<{_DEVICE_WIDTH}}  ")
    if name is not None:
        text.append(f"{plain(name)}  ", "bold")
    text.append(f"{kind:<{_KIND_WIDTH}}  ", STYLES.get(kind, ""))
    text.append_text(styled(kind, data if isinstance(data, dict) else {}))
    if event.get("stored"):
        text.append("  (stored)", "dim")
    return text


def further_state(event: Mapping[str, Any], local: bool = False) -> Text:
    """Format a state of a command below the line of an earlier one: without device, command and id."""
    text = Text(no_wrap=True, overflow="ignore", end="")
    text.append(time_of_day(parse(event.get("received_at")), local), "dim")
    return text.append("  ").append_text(styled("command", {**event["data"], **_SAID_ABOVE}))


def styled(kind: str, data: Mapping[str, Any]) -> Text:
    """Summarize the data of an event, with the most important parts styled; null values are omitted."""
    text = Text(end="")
    try:
        parts = list(_SUMMARIES.get(kind, _other)(data))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # A malformed event must not stop the display of others.
        parts = list(_other(data))
    for part in parts:
        if part not in (None, ""):
            text.append("  " if text else "")
            text.append(plain(part), part.style if isinstance(part, Text) else None)
    return text


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
        _lock_state(data),
        _unit(data.get("battery_percent"), "%"),
        Text(f"alarms {', '.join(map(str, alarms))}", "bold red") if alarms else None,
    ]


def _lock_state(data: Mapping[str, Any]) -> Any:
    state = data.get("lock_state")
    return Text("unlocked", "bold yellow") if state == "unlocked" else state


def _lock(data: Mapping[str, Any]) -> list[Any]:
    return [
        data.get("action"),
        f"by {data.get('method')}",
        _named("card", data.get("card")),
        _named("fence", data.get("fence_id")),
        _named("sub-lock", data.get("peripheral")),
        _place(data),
        _named("command", data.get("command_id")),
    ]


def _named(name: str, value: Any) -> str | None:
    return None if value is None else f"{name} {value}"


def _alarm(data: Mapping[str, Any]) -> list[Any]:
    active = data.get("active")
    name = data.get("name")
    return [
        Text(str(name), "bold red") if active else name,
        Text("raised", "bold red") if active else Text("cleared", "green"),
        _named("sub-lock", data.get("peripheral")),
        _place(data),
    ]


def _peripheral(data: Mapping[str, Any]) -> list[Any]:
    """Summarize the report of a sub-lock or sensor."""
    flags = [name.replace("_", " ") for name in _FLAGS if data.get(name)]
    return [
        _named(str(data.get("peripheral_type") or "peripheral"), data.get("peripheral")),
        _lock_state(data),
        _unit(data.get("battery_percent"), "%"),
        _unit(data.get("temperature_c"), "°C"),
        _unit(data.get("humidity_percent"), "% humidity"),
        _unit(data.get("rssi_dbm"), "dBm"),
        Text(", ".join(flags), "bold red") if flags else None,
        _named("event", data.get("event") or None),
        "sent again" if data.get("resent") else None,
    ]


def _heartbeat(data: Mapping[str, Any]) -> list[Any]:
    return [_unit(data.get("battery_percent"), "%"), _named("signal", data.get("gsm_signal"))]


def _reply(data: Mapping[str, Any]) -> list[Any]:
    words = [data.get("word"), *(data.get("arguments") or [])]
    return [",".join(map(str, words)), _named("command", data.get("command_id"))]


def _session(data: Mapping[str, Any]) -> list[Any]:
    return [data.get("state"), data.get("reason"), _unit(data.get("duration_s"), "s")]


def command(data: Mapping[str, Any]) -> list[Any]:
    """Summarize the state of a command."""
    return [
        data.get("command"),
        _named("sub-lock", data.get("peripheral")),
        data.get("id"),
        _state(data.get("state")),
        data.get("reason"),
        *answer(data),
        provenance(data),
    ]


def provenance(data: Mapping[str, Any]) -> str | None:
    """Return a remark on a form of a command that the maker doesn't document."""
    said = data.get("provenance") or ("assumed" if data.get("assumed") else None)
    return f"({said} form)" if said in ("assumed", "standard") else None


def _state(state: Any) -> Any:
    return None if state is None else Text(plain(state), state_style(plain(state)))


def state_style(state: str) -> str:
    """Return the style of a command state: succeeded, failed, or in progress."""
    return "" if state not in ENDED else "bold green" if state in _GOOD else "bold red"


def answer(data: Mapping[str, Any]) -> list[str]:
    """Return the content of the lock's answer: the arguments of its sentence, or the requested data."""
    given = data.get("answer")
    if not isinstance(given, dict) or data.get("state") in _AFTER_ANSWER:
        return []
    words = given.get("arguments")
    said = f"lock answered {','.join(map(str, words))}" if isinstance(words, list) and words else ""
    content = given.get("data")
    return [text for text in (said, json.dumps(content, ensure_ascii=False) if content else "") if text]


def _other(data: Mapping[str, Any]) -> list[Any]:
    return [f"{name} {value}" for name, value in data.items() if value is not None]


_SUMMARIES: Final[Mapping[str, Callable[[Mapping[str, Any]], list[Any]]]] = {
    "location": _location,
    "lock": _lock,
    "alarm": _alarm,
    "heartbeat": _heartbeat,
    "reply": _reply,
    "password": lambda data: ["a dynamic password was reported"],
    "session": _session,
    "peripheral": _peripheral,
    "command": command,
}
