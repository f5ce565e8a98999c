"""The rights that a gateway needs in Redis: commands with their keys and channels."""

from collections.abc import Sequence
from typing import Final

from msgspec.msgpack import encode

from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.keys import Channels, Keys
from jt709c_gateway.redis.scripts import Caller

#: Placeholder for a device, a command or a gateway in a key: rights are given by pattern.
_ANY: Final = "0"
#: Commands by key, named as in `Keys`.
NEEDED: Final = {
    "events": "TYPE XADD XTRIM",
    "devices": "TYPE ZADD ZCARD ZCOUNT ZPOPMIN",
    "spared": "GET SET",
    "histories": "ZADD ZCARD ZPOPMIN",
    "let_go": "HINCRBY HGET",
    "imei": "TYPE HGET HMGET HSET HDEL",
    "recent": "GET SET APPEND DEL",
    "peripheral": "HGET HMGET HSET DEL",
    "peripherals": "TYPE ZADD ZREM ZCARD ZPOPMIN",
    "malformed": "XADD",
    "area": "GET SET DEL",
    "areas": "SADD SREM SMEMBERS",
    "device": "HGET HMGET HSET HINCRBY DEL",
    "label": "HMGET HSET HDEL DEL",
    "labels": "SADD SREM SMEMBERS",
    "label_changes": "ZADD ZREMRANGEBYRANK ZRANGEBYSCORE ZREVRANGEBYSCORE EXPIRE",
    "batch": "GET SET",
    "batch_lease": "EXISTS SET DEL",
    "history": "TYPE XADD DEL",
    "track": "TYPE RPUSH LTRIM DEL",
    "session": "TYPE EXISTS HGET HMGET HSET EXPIRE DEL",
    "online_at": "TYPE SADD SREM SSCAN",
    "secret": "EXISTS GET SET",
    "commit_marker": "GET SET EXPIRE",
    "commands": "TYPE LLEN RPUSH",
    "intake": "TYPE LREM LRANGE",
    "route": "TYPE RPUSH LRANGE LTRIM EXPIRE",
    "waiting": "TYPE RPUSH LPUSH LPOP LRANGE LREM LLEN EXPIRE DEL",
    "under_way": "TYPE HSET HGET HGETALL HDEL HLEN",
    "unsettled": "TYPE HSET HGETALL HDEL EXPIRE",
    "deadlines": "TYPE ZADD ZREM ZCARD ZRANGEBYSCORE",
    "invalid": "TYPE LPUSH LTRIM",
    "command": "TYPE EXISTS HGET HMGET HGETALL HSET HINCRBY EXPIRE",
    "recent_commands": "TYPE ZADD ZREMRANGEBYRANK ZRANGEBYSCORE",
    "reply": "TYPE RPUSH LTRIM EXPIRE",
    "gateway": "EXISTS GET SET DEL",
    "gateways": "SADD SREM SMEMBERS",
    "epoch": "GET SET",
}
#: The same for several partitions.
PARTITIONED: Final = {
    "imei": "TYPE HGET HMGET HSET HDEL HLEN HRANDFIELD",
    "transfers": "TYPE LLEN LRANGE LREM RPUSH",
    "transfer_lease": "GET SET",
    "partitions": "GET SET",
}
#: The same for ``--admit redis``.
ADMITTING: Final = {"allowed": "SMISMEMBER"}


def _key(keys: Keys, name: str) -> str:
    found = getattr(keys, name)
    if isinstance(found, str):
        return found
    # `commit_marker` takes a gateway and its run.
    return str(found(_ANY, _ANY) if name == "commit_marker" else found(_ANY))


def needed(keys: Keys, admits: bool = False) -> list[tuple[str, ...]]:
    """Return every command that a gateway runs, with key or channel; `admits` includes ``--admit redis``."""
    several = keys.channels is not Channels.OWN
    table = {**NEEDED, **(PARTITIONED if several else {}), **(ADMITTING if admits else {})}
    found = [(command, _key(keys, name)) for name, commands in table.items() for command in commands.split()]
    moves = [(one, keys.commands, keys.intake(_ANY)) for one in ("LMOVE", "BLMOVE")]
    publish = "SPUBLISH" if keys.channels is Channels.SHARDED else "PUBLISH"
    channels = [(publish, keys.channel(kind, _ANY)) for kind in KINDS]
    return [*found, *moves, ("LMOVE", keys.intake(_ANY), keys.commands), *channels, ("TIME",)]


def describe(denied: Sequence[Sequence[str]]) -> list[str]:
    """Return the denied commands with key patterns, such as ``XADD jt709c:history:*``."""
    lines: dict[str, list[str]] = {}
    for command, *names in denied:
        patterns = [name.removesuffix(_ANY) + "*" if name.endswith(f":{_ANY}") else name for name in names]
        lines.setdefault(command, []).append(" ".join(patterns))
    return [f"{command} {', '.join(names)}".strip() for command, names in sorted(lines.items())]


async def missing(caller: Caller, keys: Keys, admits: bool = False) -> list[str]:
    """Return the rights that our user lacks, formatted by `describe`; txredisapi's errors are passed on."""
    commands = needed(keys, admits)
    indices = await scripts.run(caller, scripts.RIGHTS, [], [encode(commands)])
    return describe([commands[index] for index in indices])
