"""Assembles the sources of the Lua scripts from their files, with the key names of `Keys`."""

import re
from importlib.resources import files
from inspect import signature
from typing import Final

from jt709c_gateway.redis.keys import Keys

_NAME: Final = re.compile(r"\bkey_([a-z_]+)\b")
#: Stands for the variable parts of a name.
_VARIABLE: Final = "\0"


def assemble(*parts: str) -> bytes:
    """Return the source made of these files in `lua`, with the names of keys put in.

    `ARGV[1]` of a script with such names is the prefix. `key_devices` stands for the name `Keys.devices`, and
    `key_device` for that of `Keys.device` up to its first variable part: ``key_device .. device``. Each is
    replaced by an expression, since twenty variables would cost a tenth of a batch of one record.
    """
    lua = files(__package__).joinpath("lua")
    code = "\n".join(lua.joinpath(f"{part}.lua").read_text("utf-8") for part in parts)
    code, names = _NAME.subn(lambda found: f"prefix .. '{_constant(found[1])}'", code)
    return (f"local prefix = ARGV[1]\n{code}" if names else code).encode()


def _constant(name: str) -> str:
    """Return what follows the prefix in the name of a key, up to the first variable part."""
    found = getattr(Keys(""), name)
    text: str = found if isinstance(found, str) else found(*[_VARIABLE for _ in signature(found).parameters])
    return text.partition(_VARIABLE)[0]
