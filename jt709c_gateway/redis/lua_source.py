"""Assembles the sources of the Lua scripts from their files, with the key names of `Keys`."""

import re
from importlib.resources import files
from inspect import signature
from typing import Final

from jt709c_gateway.redis.keys import Channels, Keys

_NAME: Final = re.compile(r"\bkey_([a-z_]+)\b")
#: Stands for the value of the marker of a partition.
_COUNT: Final = re.compile(r"\bpartition_count\b")
#: The name of channels, and what derives their prefix from that of a partition.
_CHANNEL: Final = "channel"
_SHARED: Final = "local channels = string.match(prefix, '^(.*):')\n"
#: Stands for the variable parts of a name.
_VARIABLE: Final = "\0"


#: A file of `lua`, or several that are a function within what precedes them.
Part = str | tuple[str, ...]


def assemble(*parts: Part, channels: Channels = Channels.OWN, count: int = 1) -> bytes:
    """Return the source made of these files in `lua`, with the names of keys put in.

    `channels` says where the script publishes events, and `count` how many partitions there are: it stands
    for `partition_count`, as text, which is false for a single one.

    `ARGV[1]` of a script with such names is the prefix. `key_devices` stands for the name `Keys.devices`, and
    `key_device` for that of `Keys.device` up to its first variable part: ``key_device .. device``. Each is
    replaced by an expression, since twenty variables would cost a tenth of a batch of one record.

    Files in a tuple, and all after them, become a function that is called at once. For each variable that a
    new function uses, Lua searches those of the running function one by one, but finds those of outer ones in
    one step. That takes an eighth off a batch of six records. A function may use 60 variables of outer ones.
    """
    code = _nested(parts)
    if channels is Channels.SHARDED:
        code = code.replace("'PUBLISH'", "'SPUBLISH'")
    shared = channels is Channels.SHARED

    def named(found: re.Match[str]) -> str:
        start = "channels" if shared and found[1] == _CHANNEL else "prefix"
        return f"{start} .. '{_constant(found[1])}'"

    code = _COUNT.sub(f"'{count}'" if count > 1 else "false", code)
    code, names = _NAME.subn(named, code)
    head = "local prefix = ARGV[1]\n" + (_SHARED if shared else "")
    return (head + code if names else code).encode()


def _nested(parts: tuple[Part, ...]) -> str:
    lua = files(__package__).joinpath("lua")
    code: list[str] = []
    ends: list[str] = []
    for part in parts:
        if isinstance(part, tuple):
            code.append("return (function()")
            ends.append("end)()")
        for name in part if isinstance(part, tuple) else (part,):
            code.append(lua.joinpath(f"{name}.lua").read_text("utf-8"))
    return "\n".join(code + ends)


def _constant(name: str) -> str:
    """Return what follows the prefix in the name of a key, up to the first variable part."""
    found = getattr(Keys(""), name)
    text: str = found if isinstance(found, str) else found(*[_VARIABLE for _ in signature(found).parameters])
    return text.partition(_VARIABLE)[0]
