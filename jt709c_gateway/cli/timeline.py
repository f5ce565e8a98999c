"""Formats the history of a device: commands with their states, and events of the lock."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import define, field
from rich.text import Text

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.time_format import date_and_time, parse

_STATE_WIDTH: Final = 12
_INDENT: Final = "    "
#: Columns of the terminal by which the rest of a long line is indented.
INDENT: Final = 26
#: Seconds by which the time of an event may differ from its arrival without a remark.
_LATE: Final = 60.0


@define
class Timeline:
    """Formats events as lines, oldest first, and remembers the commands seen.

    Times are in UTC, or with `local` in the local zone.
    """

    local: bool = False

    #: Time of each command by id, as far as the events reach back.
    _asked: dict[str, datetime | None] = field(factory=dict)
    #: The command of the last indented line.
    _current: str | None = None

    def line(self, event: Mapping[str, Any]) -> Text:
        """Format an event as a line."""
        data = event.get("data")
        data = data if isinstance(data, dict) else {}
        kind, when = str(event.get("kind")), parse(event.get("received_at"))
        named = data.get("id" if kind == "command" else "command_id")
        # An invalid command may have no id.
        command = named if isinstance(named, str) else ""
        if kind == "command" and (not command or command not in self._asked):
            return self._begin(command, data, when)
        text = self._dated(when)
        if command and command in self._asked:
            self._indent(text, command, when)
        if kind == "command":
            _step(text, data)
        else:
            _own(text, kind, data, event, when, self.local)
        return text

    def _dated(self, when: datetime | None) -> Text:
        """Begin a line with its time."""
        text = Text(no_wrap=True, overflow="ignore", end="")
        return text.append(f"{date_and_time(when, self.local, milliseconds=True)}  ", "dim")

    def _begin(self, command: str, data: Mapping[str, Any], when: datetime | None) -> Text:
        """Format the heading of a command: name, parameters and sender.

        Its time is that from which the steps count: when the command was made, if that is known.
        """
        self._current = command
        self._asked[command] = asked = parse(data.get("created_at")) or when
        text = self._dated(asked)
        text.append(plain(data.get("command") or "a command that can't be read"), "bold green")
        text.append(f"  asked for by {_who(data)}", "bold")
        parts = [*([f"command {command}"] if command else []), *_params(data.get("params"))]
        if remark := event_format.provenance(data):
            parts.append(remark)
        text.append("  " + plain("  ".join(parts)), "dim")
        if data.get("state") != "queued":
            text.append("  ")
            _step(text, data)
        return text

    def _indent(self, text: Text, command: str, when: datetime | None) -> None:
        asked = self._asked[command]
        text.append(_INDENT)
        if when is not None and asked is not None:
            text.append(f"{(when - asked).total_seconds():+8.3f} s  ", "dim")
        if command != self._current:
            text.append(plain(f"command {command}  "), "dim")
        self._current = command


def _who(data: Mapping[str, Any]) -> str:
    who = plain(data.get("issued_by") or "an unnamed sender")
    return f"{who}, signed with key {plain(data['key'])}" if data.get("key") else who


def _params(params: Any) -> list[str]:
    return [f"{name}={value}" for name, value in params.items()] if isinstance(params, dict) else []


def _step(text: Text, data: Mapping[str, Any]) -> None:
    """Format a state of a command with reason and answer."""
    state = plain(data.get("state"))
    style = event_format.state_style(state)
    said = "  ".join(plain(part) for part in (data.get("reason"), *event_format.answer(data)) if part)
    text.append(f"{state:<{_STATE_WIDTH}}  " if said else state, style)
    text.append(said)


def _own(
    text: Text,
    kind: str,
    data: Mapping[str, Any],
    event: Mapping[str, Any],
    when: datetime | None,
    local: bool,
) -> None:
    """Format an event of the lock."""
    text.append(f"{plain(kind):<{_STATE_WIDTH}}", event_format.STYLES.get(kind, ""))
    text.append("  ")
    text.append_text(event_format.styled(kind, {**data, "command_id": None}))
    happened = parse(data.get("time"))
    if happened is not None and when is not None and abs((when - happened).total_seconds()) > _LATE:
        text.append(f"  by its clock {date_and_time(happened, local, milliseconds=True)}", "dim")
    if event.get("stored"):
        text.append("  (stored)", "dim")
