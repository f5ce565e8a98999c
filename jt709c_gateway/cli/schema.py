"""`jt709c schema`: prints the schemas of events and commands, made from the classes."""

import json
import re
from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, Final, Literal, get_args

import click
import msgspec

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import IntegerRange
from jt709c_gateway.commands import model
from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE
from jt709c_gateway.commands.conditions import MAX_POSITION_AGE, MAX_SPEED_KMH, WhenNotAllowed
from jt709c_gateway.commands.event_data import CommandData
from jt709c_gateway.commands.model import EXPECTED, Envelope, Wire
from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.redis.keys import DEFAULT_PREFIX, Channels, Keys
from jt709c_gateway.redis.partitions import MAX_PARTITIONS
from jt709c_gateway.web.event_types import event_types

What = Literal["events", "command", "asyncapi"]
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_SCHEMAS: Final = "#/components/schemas/"
#: What the schema of a command has beyond the types of its fields (docs/commands.rst).
_COMMAND_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "id": {"pattern": f"^{model.COMMAND_ID.pattern}$"},
    "device": {"pattern": f"^({model.DEVICE_NAME.pattern})$"},
    "command": {
        "pattern": f"^{model.COMMAND_NAME.pattern}$",
        "examples": [*CATALOGUE, *ALIASES],
    },
    "params": {},
    "ttl": {"exclusiveMinimum": 0, "maximum": model.MAX_TTL, "default": model.DEFAULT_TTL},
    "timeout": {
        "minimum": model.MIN_TIMEOUT,
        "maximum": model.MAX_TIMEOUT,
        "default": model.DEFAULT_TIMEOUT,
    },
    "only_within": {},
    "max_speed_kmh": {"minimum": 0, "maximum": MAX_SPEED_KMH},
    "not_before": {},
    "not_after": {},
    "position_max_age": {"minimum": 1, "maximum": MAX_POSITION_AGE},
    "when_not_allowed": {"enum": [str(one) for one in WhenNotAllowed]},
    "reply_to": {"pattern": f"^{model.REPLY_NAME.pattern}$"},
    "issued_by": {"minLength": 1, "maxLength": 128},
    "batch": {"pattern": f"^{model.BATCH_ID.pattern}$"},
}


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


_EVENT_TEXT: Final = {**_text("The event as JSON text."), "contentMediaType": "application/json"}
#: Entries of streams: their fields are texts.
_ENTRIES: Final[Mapping[str, Any]] = {
    "EventEntry": {
        "type": "object",
        "description": "An entry of a stream of events.",
        "properties": {
            "kind": {"type": "string", "enum": list(KINDS)},
            "device": _text("The device's id."),
            "event": _EVENT_TEXT,
        },
        "required": ["kind", "device", "event"],
    },
    "MalformedEntry": {
        "type": "object",
        "description": "Input that could not be read, or a frame of a lock that is not admitted.",
        "properties": {
            "peer": _text("The address that it came from."),
            "reason": _text("Why it could not be read; not_admitted for a lock that is not admitted."),
            "raw": _text("The bytes in hex; passwords are masked."),
            "time": _text("When it was received."),
        },
        "required": ["peer", "reason", "raw", "time"],
    },
}
#: Parameters of addresses.
_PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "partition": {
        "description": "The number of a partition in braces, which are part of the name: crc16(device id) "
        "mod their number; commands may be pushed to any, and replies are by crc16(name)."
    },
    "device": {"description": "The id of a device, as in its events."},
    "name": {"description": "The reply_to of a command."},
}


@click.command()
@click.argument("what", type=click.Choice(list(get_args(What))))
@click.option(
    "--kind",
    metavar="KIND",
    shell_complete=completion_values.kinds,
    help="With events: only events of this kind.",
)
@click.option(
    "--prefix",
    default=DEFAULT_PREFIX,
    show_default=True,
    help="With asyncapi: prefix of all keys and channels.",
)
@click.option(
    "--partitions",
    type=IntegerRange(1, MAX_PARTITIONS),
    metavar="N",
    default=1,
    envvar="JT709C_PARTITIONS",
    show_envvar=True,
    show_default=True,
    help="With asyncapi: partitions of the keys.",
)
@click.option(
    "--pubsub",
    type=click.Choice(["classic", "sharded"]),
    default="classic",
    show_default=True,
    help="With asyncapi: where the events of several partitions are published.",
)
def schema(what: What, kind: str | None, prefix: str, partitions: int, pubsub: str) -> None:
    """Print a description for programs, made from the classes of the gateway.

    \b
    WHAT is
        events     JSON Schema of the events, by their kind
        command    JSON Schema of an entry of the list of commands, signed or not
        asyncapi   AsyncAPI 3 document of the channels, streams and lists in Redis

    Events may get further fields; a consumer ignores those that it does not know.

    \b
    Examples:
        jt709c schema events > events.schema.json
        jt709c schema events --kind lock
        jt709c schema asyncapi --prefix fleet2
        jt709c schema asyncapi --partitions 12
    """
    if kind is not None and (what != "events" or kind not in KINDS):
        raise UserError(f"--kind: expected one of {', '.join(KINDS)}, with events")
    if what == "events":
        document = event_schema(kind)
    else:
        document = command_schema() if what == "command" else asyncapi(*_keys(prefix, partitions, pubsub))
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def event_schema(kind: str | None = None) -> dict[str, Any]:
    """Make the JSON Schema of events of one kind, or of all."""
    types = {_kind(one): one for one in get_args(event_types())}
    chosen = list(types.values()) if kind is None else [types[kind]]
    refs, found = msgspec.json.schema_components(chosen, ref_template="#/$defs/{name}")
    head = {"$schema": _DRAFT, "title": "Events of jt709c-gateway" if kind is None else f"Event {kind}"}
    return {**head, "oneOf": list(refs), "$defs": _tidy(found)}


def command_schema() -> dict[str, Any]:
    """Make the JSON Schema of an entry of the list of commands."""
    refs, found = msgspec.json.schema_components((Wire, Envelope), ref_template="#/$defs/{name}")
    _describe_command(found)
    head = {"$schema": _DRAFT, "title": "A command for jt709c-gateway, unsigned or signed"}
    return {**head, "oneOf": list(refs), "$defs": _tidy(found)}


def _describe_command(found: Mapping[str, dict[str, Any]]) -> None:
    """Add patterns, limits and descriptions to the schemas of a command."""
    for name, more in _COMMAND_FIELDS.items():
        field = found["Wire"]["properties"][name]
        if field.get("default", more) is None:
            del field["default"]
        field |= {"description": EXPECTED[name], **more}
    for name in Envelope.__struct_fields__:
        found["Envelope"]["properties"][name]["description"] = EXPECTED[name]


def _kind(event_type: Any) -> str:
    return str(event_type.__struct_config__.tag)


def _tidy(found: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the schemas, and replace Python's words in descriptions, which are docstrings."""
    for one in found.values():
        if "description" in one:
            one["description"] = re.sub(r"\bNone\b", "null", cleandoc(one["description"]))
    return dict(sorted(found.items()))


def _keys(prefix: str, partitions: int, pubsub: str) -> tuple[Keys, int]:
    """Return the names of keys with `{partition}` for the hash tag of a partition, and how many there are."""
    if partitions == 1:
        return Keys(prefix), 1
    return Keys(
        f"{prefix}:{{partition}}", Channels.SHARDED if pubsub == "sharded" else Channels.SHARED
    ), partitions


def asyncapi(keys: Keys, partitions: int = 1) -> dict[str, Any]:
    """Make the AsyncAPI document of what the gateway publishes and reads under a prefix."""
    pubsub = "sharded pubsub" if keys.channels is Channels.SHARDED else "pubsub"
    events = {_kind(one): one for one in get_args(event_types())}
    types = [*events.values(), Wire, Envelope, CommandData]
    _, found = msgspec.json.schema_components(types, ref_template=f"{_SCHEMAS}{{name}}")
    _describe_command(found)
    found |= _ENTRIES
    channels = {
        f"event_{kind}": _channel(
            keys.channel(kind, "{device}"), pubsub, f"Events of the kind {kind}, each once.", [one.__name__]
        )
        for kind, one in events.items()
    }
    channels |= {
        "events": _channel(keys.events, "stream", "All events, capped by --events-max.", ["EventEntry"]),
        "history": _channel(
            keys.history("{device}"), "stream", "A device's lock, alarm and command events.", ["EventEntry"]
        ),
        "malformed": _channel(keys.malformed, "stream", "Unreadable input.", ["MalformedEntry"]),
        "commands": _channel(keys.commands, "list", "Commands; push with RPUSH.", ["Wire", "Envelope"]),
        "replies": _channel(
            keys.reply("{name}"), "list", "Outcomes of commands with this reply_to.", ["CommandData"]
        ),
    }
    for channel in channels.values():
        if "partition" in channel.get("parameters", {}):
            channel["parameters"]["partition"] = {
                **_PARAMETERS["partition"],
                "enum": [f"{{{number}}}" for number in range(partitions)],
            }
    schemas = {name: _draft7(one) for name, one in _tidy(found).items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "jt709c-gateway",
            "version": "1",
            "description": "Events of locks and commands to them, in Redis: docs/redis.rst and "
            "docs/commands.rst. Events may get further fields.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {"host": "127.0.0.1:6379", "protocol": "redis", "description": "The gateway's --redis."}
        },
        "channels": channels,
        "operations": {name: _operation(name, channel) for name, channel in channels.items()},
        "components": {
            "messages": {
                name: {"name": name, "payload": {"$ref": f"{_SCHEMAS}{name}"}}
                for channel in channels.values()
                for name in channel["messages"]
            },
            "schemas": schemas,
        },
    }


def _channel(address: str, kind: str, description: str, messages: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "x-redis-type": kind,
    }
    parameters = {name: one for name, one in _PARAMETERS.items() if f"{{{name}}}" in address}
    return {**found, "parameters": parameters} if parameters else found


def _operation(name: str, channel: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what the gateway does with a channel."""
    return {
        "action": "receive" if name == "commands" else "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{message}"} for message in channel["messages"]],
    }


def _draft7(value: Any) -> Any:
    """Convert a schema to draft 7, on which schemas of AsyncAPI are based: it spells tuples differently."""
    if isinstance(value, list):
        return [_draft7(item) for item in value]
    if not isinstance(value, dict):
        return value
    converted = {name: _draft7(item) for name, item in value.items() if name != "prefixItems"}
    if "prefixItems" in value:
        converted |= {"items": _draft7(value["prefixItems"]), "additionalItems": False}
    return converted
