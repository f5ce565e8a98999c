"""The Lua scripts except `commit.lua`, called by hash and reloaded when the server has lost them."""

from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, Protocol

import txredisapi
from twisted.internet import defer

ACCEPT: Final = "command_accept"
CLAIM: Final = "command_claim"
REMOVE: Final = "command_remove"
ADOPT: Final = "command_adopt"
EXPIRE: Final = "command_expire"
REPORT: Final = "command_report"
RIGHTS: Final = "rights"
ASK: Final = "device_ask"
HANDS: Final = "command_in_hand"
ENTER: Final = "gateway_enter"
RENEW: Final = "gateway_renew"
SURVEY: Final = "fleet_survey"
FLEET: Final = "fleet_read"

#: The common first part of scripts that touch a command.
_COMMON: Final = "command_common"
_STATES: Final = "command_states"


def _read(name: str) -> bytes:
    return files(__package__).joinpath("lua", f"{name}.lua").read_bytes()


_SOURCES: Final = {
    **{name: _read(_COMMON) + b"\n" + _read(name) for name in (ACCEPT, CLAIM, REMOVE, ADOPT, REPORT, HANDS)},
    EXPIRE: b"\n".join(_read(name) for name in (_COMMON, _STATES, EXPIRE)),
    **{name: _read(name) for name in (ASK, ENTER, RENEW, SURVEY, FLEET)},
}
#: Returns the indices of the commands that our user may not run; touches no key.
#: ARGV[1] is MessagePack: arrays of a command and its keys, or channel. Unknown commands are skipped.
_SOURCES[RIGHTS] = b"""
local denied = {}
for index, command in ipairs(cmsgpack.unpack(ARGV[1])) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(command))
  if known and not allowed then
    denied[#denied + 1] = index - 1
  end
end
return denied
"""
#: How often a script is loaded for one call: it can be flushed between loading and use.
_LOADS: Final = 3
_HASHES: Final = {name: sha1(source, usedforsecurity=False).hexdigest() for name, source in _SOURCES.items()}


class Caller(Protocol):
    """A connection to Redis, or its protocol."""

    def call(self, *arguments: Any) -> Any:
        """Send one command; return a Deferred of its reply."""


async def load(caller: Caller) -> None:
    """Load all scripts into the server."""
    for source in _SOURCES.values():
        await caller.call("SCRIPT", "LOAD", source)


async def run(caller: Caller, name: str, keys: list[str], arguments: list[Any]) -> Any:
    """Run one of the scripts; txredisapi's errors are passed on."""
    for _ in range(_LOADS):
        try:
            return await _evaluate(caller, name, keys, arguments)
        except txredisapi.ResponseError as error:
            if "NOSCRIPT" not in str(error):
                raise
        await caller.call("SCRIPT", "LOAD", _SOURCES[name])
    return await _evaluate(caller, name, keys, arguments)


def _evaluate(caller: Caller, name: str, keys: list[str], arguments: list[Any]) -> "defer.Deferred[Any]":
    reply: defer.Deferred[Any] = caller.call("EVALSHA", _HASHES[name], len(keys), *keys, *arguments)
    return reply
