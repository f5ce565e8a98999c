"""The Lua scripts, called by hash and loaded again when the server has lost them."""

from functools import cache
from hashlib import sha1
from typing import Any, Final, Protocol

import txredisapi
from attrs import define, field, frozen
from twisted.internet import defer

from jt709c_gateway.redis.keys import Channels, Keys
from jt709c_gateway.redis.lua_source import Part, assemble
from jt709c_gateway.util.clock import Clock

#: How often a script is loaded for one call: it can be flushed between loading and use.
_LOADS: Final = 3
#: Seconds for which further connections to a server need not load the scripts.
_LOADED_FOR: Final = 5.0


@frozen
class Script:
    """A script; the server knows it by the `hash` of its source."""

    name: str
    parts: tuple[Part, ...] = field(repr=False)
    source: bytes = field(repr=False)
    hash: str

    @classmethod
    def of(cls, name: str, *parts: Part) -> "Script":
        """Assemble the script `name` from the files `parts`; by default from the file of its name."""
        return _assembled(name, parts or (name,), Channels.OWN, 1)

    def form_for(self, keys: Keys) -> "Script":
        """Return the form of this script for these channels and so many partitions."""
        return _assembled(self.name, self.parts, keys.channels, keys.count)


@cache
def _assembled(name: str, parts: tuple[Part, ...], channels: Channels, count: int) -> Script:
    source = assemble(*parts, channels=channels, count=count)
    return Script(name, parts, source, sha1(source, usedforsecurity=False).hexdigest())


#: What the scripts begin with by which a gateway writes.
_GUARD: Final = "partition_guard"
#: What the scripts that touch a command begin with.
_COMMAND: Final = (_GUARD, "checks", "command_common")

#: Called by `Committer`.
COMMIT: Final = Script.of(
    "commit",
    *(_GUARD, "checks", "history_rank", "commit"),
    (
        "commit_devices",
        "commit_checks",
        "commit_state",
        "commit_sessions",
        "command_states",
        "commit_conditions",
    ),
    ("commit_batch",),
)
ACCEPT: Final = Script.of("command_accept", *_COMMAND, "history_rank", "command_accept")
CLAIM: Final = Script.of("command_claim", *_COMMAND, "command_claim")
REMOVE: Final = Script.of("command_remove", *_COMMAND, "command_remove")
ADOPT: Final = Script.of("command_adopt", *_COMMAND, "command_adopt")
REPORT: Final = Script.of("command_report", *_COMMAND, "history_rank", "command_report")
HANDS: Final = Script.of("command_in_hand", "checks", "command_common", "command_in_hand")
EXPIRE: Final = Script.of("command_expire", *_COMMAND, "history_rank", "command_states", "command_expire")
ASK: Final = Script.of("device_ask")
ENTER: Final = Script.of("gateway_enter", _GUARD, "gateway_enter")
RENEW: Final = Script.of("gateway_renew", _GUARD, "gateway_renew")
NOTE: Final = Script.of("gateways_note", _GUARD, "gateways_note")
SURVEY: Final = Script.of("fleet_survey")
FLEET: Final = Script.of("fleet_read")
RIGHTS: Final = Script.of("rights")
PARK: Final = Script.of("transfer_park", _GUARD, "checks", "transfer_park")
DELIVER: Final = Script.of("transfer_deliver", _GUARD, "transfer_deliver")
IMEI: Final = Script.of("imei_note", _GUARD, "imei_note")
LATEST: Final = Script.of("events_latest")
LABEL: Final = Script.of("label_write")

SCRIPTS: Final = (
    *(COMMIT, ACCEPT, CLAIM, REMOVE, ADOPT, REPORT, HANDS, EXPIRE),
    *(ASK, ENTER, RENEW, NOTE, SURVEY, FLEET, RIGHTS),
    *(PARK, DELIVER, IMEI, LATEST, LABEL),
)


class Caller(Protocol):
    """A connection to Redis, or its protocol."""

    def call(self, *arguments: Any) -> Any:
        """Send one command; return a Deferred of its reply."""


async def load(caller: Caller, keys: Keys) -> None:
    """Load all scripts into the server, in the form for these channels and so many partitions."""
    for script in SCRIPTS:
        await caller.call("SCRIPT", "LOAD", script.form_for(keys).source)


@define
class ScriptLoader:
    """Loads the scripts once for all connections of a gateway that are made to a server at about one time.

    With 256 partitions each connection would otherwise wait for the scripts of all others. A script that is
    missing all the same is loaded when it is called.
    """

    clock: Clock
    #: When loading began last, by the address of the server.
    _begun: dict[object, float] = field(factory=dict, init=False)

    async def load(self, caller: Caller, keys: Keys, server: object) -> None:
        """Load all scripts, unless that has just begun over another connection to this server."""
        now = self.clock.seconds()
        if now - self._begun.get(server, -_LOADED_FOR) >= _LOADED_FOR:
            self._begun = {one: at for one, at in self._begun.items() if now - at < _LOADED_FOR}
            self._begun[server] = now
            await load(caller, keys)


async def run(caller: Caller, script: Script, keys: list[str], arguments: list[Any]) -> Any:
    """Run a script; txredisapi's errors are passed on."""
    for _ in range(_LOADS):
        try:
            return await _evaluate(caller, script, keys, arguments)
        except txredisapi.ResponseError as error:
            if "NOSCRIPT" not in str(error):
                raise
        await caller.call("SCRIPT", "LOAD", script.source)
    return await _evaluate(caller, script, keys, arguments)


def _evaluate(caller: Caller, script: Script, keys: list[str], arguments: list[Any]) -> "defer.Deferred[Any]":
    reply: defer.Deferred[Any] = caller.call("EVALSHA", script.hash, len(keys), *keys, *arguments)
    return reply
