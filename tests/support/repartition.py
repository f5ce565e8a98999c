"""A store with keys of every kind, its content whatever its partitions, and moves over blocking clients."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import txredisapi
from twisted.internet import defer, task

from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.repartition.mover import Mover
from jt709c_gateway.redis.repartition.names import FATES, Fate, Name, parse_name
from jt709c_gateway.redis.repartition.stores import Store
from tests.support import RedisClient, RedisError

DEVICES = [f"79430801{number:04}" for number in range(24)]
IMEIS = {device: f"86{device}1" for device in DEVICES}
#: Year 2100, in milliseconds: keys that expire are there to the end of a test.
FAR = 4_102_444_800_000


class Died(Exception):
    """The process has died."""


class BlockingConnection:
    """A connection for a move over a blocking client. `before_call` may raise, as when the process dies."""

    def __init__(self, client: RedisClient, before_call: Callable[[Sequence[Any]], object]) -> None:
        self._client = client
        self._before_call = before_call

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """Send one command."""
        try:
            self._before_call(arguments)
            return defer.succeed(self._client.call(*arguments))
        except RedisError as error:
            return defer.fail(txredisapi.ResponseError(str(error)))
        except Died:
            return defer.fail()

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> "defer.Deferred[list[Any]]":
        """Send commands one by one."""
        results: list[Any] = []
        for command in commands:
            try:
                self._before_call(command)
                results.append(self._client.call(*command))
            except RedisError as error:
                results.append(txredisapi.ResponseError(str(error)))
            except Died:
                return defer.fail()
        return defer.succeed(results)


def store(
    clients: Sequence[RedisClient],
    prefix: str,
    count: int,
    before_call: Callable[[Sequence[Any]], object] = lambda _: None,
    servers: str = "redis://here",
) -> Store:
    """Return a store of so many partitions on these servers."""
    connections = [BlockingConnection(clients[number % len(clients)], before_call) for number in range(count)]
    return Store.of(Partitions(prefix, count), connections, servers)


def finish(work: Callable[[Mover], Any], before: Store, after: Store, **options: Any) -> Any:
    """Run `work` with a mover and return its result, or raise its error."""
    clock = task.Clock()
    running = defer.Deferred.fromCoroutine(work(Mover(clock, before, after, settle=0.1, **options)))
    for _ in range(40):
        if running.called:
            break
        clock.advance(0.5)
    found: list[Any] = []
    running.addBoth(found.append)
    if isinstance(found[0], Exception) or hasattr(found[0], "raiseException"):
        found[0].raiseException()
    return found[0]


def move(before: Store, after: Store, **options: Any) -> str:
    """Run a move to its end."""
    return str(finish(lambda mover: mover.run(), before, after, **options))


def fill(before: Store, clients: Sequence[RedisClient]) -> None:
    """Write keys of every kind, as gateways do, into the partitions where they belong."""
    for place in before.places:
        client, keys = clients[place.number % len(clients)], place.keys
        if before.count > 1:
            client.call("SET", keys.partitions, before.count)
        client.call("SET", keys.epoch, 5 + place.number)
        client.call("SADD", keys.gateways, "gw1", "gw2")
        client.call("HSET", keys.let_go, "devices", 3, "histories", 1)
        client.call("SET", keys.spared, 7)
        client.call("SET", keys.commit_marker("gw1", "b00"), "9")
        client.call("RPUSH", keys.invalid, f"bad {place.number} 1", f"bad {place.number} 2")
        client.call("RPUSH", keys.commands, *(json.dumps({"n": n, "k": place.number}) for n in range(3)))
        client.call("RPUSH", keys.intake("gw1"), json.dumps({"taken": place.number}))
        for number in range(4):
            client.call("XADD", keys.malformed, f"1000-{number}", "raw", f"{place.number}/{number}")
    for number, device in enumerate(DEVICES):
        _fill_device(before, clients, number, device)
    for name in ("ward", "hall"):
        place = before.places[before.partitions.number(name)]
        client = clients[place.number % len(clients)]
        client.call("RPUSH", place.keys.reply(name), f"outcome for {name}")
        client.call("PEXPIREAT", place.keys.reply(name), FAR)
        client.call("SET", place.keys.batch(name), f"batch {name}")
    if before.count > 1:
        _fill_transfers(before, clients)


def _fill_transfers(before: Store, clients: Sequence[RedisClient]) -> None:
    keys = before.places[1].keys
    entries = [{"at": 1.0, "entry": "forwarded", "to": 0}, {"at": 1.0, "entry": "late", "reply_to": "ward"}]
    clients[1 % len(clients)].call("RPUSH", keys.transfers, *map(json.dumps, entries), "no transfer")


def _fill_device(before: Store, clients: Sequence[RedisClient], number: int, device: str) -> None:
    place = before.places[before.partitions.number(device)]
    client, keys = clients[place.number % len(clients)], place.keys
    imei, command = IMEIS[device], f"cmd-{number}"
    at_imei = before.places[before.partitions.number_of(imei)]
    client.call("HSET", keys.device(device), "seen", "2026-01-01T00:00:00Z", "imei", imei, "n", number)
    client.call("HSET", keys.label(device), "name", f"Truck {number}", "group", "north")
    client.call("SADD", keys.labels, device)
    client.call("ZADD", keys.label_changes, number, device)
    client.call("HSET", keys.imei, imei, device)
    clients[at_imei.number % len(clients)].call("HSET", at_imei.keys.imei, imei, device)
    client.call("ZADD", keys.devices, f"17000000{number:02}.125", device)
    client.call("ZADD", keys.histories, 3.5 + number, device)
    client.call("RPUSH", keys.track(device), *(f"[{step}]" for step in range(number)), "[last]")
    client.call("SET", keys.recent(device), "0123456789abcdef" * 3, "PXAT", FAR)
    client.call("SET", keys.secret(device), f"pass{number}", "PXAT", FAR + 1)
    client.call("HSET", keys.session(device), "gateway", "gw1", "token", f"gw1/5-b-{number}")
    client.call("PEXPIREAT", keys.session(device), FAR)
    client.call("SADD", keys.online_at("gw1"), device)
    client.call("SADD", keys.allowed, device)
    client.call("HSET", keys.peripheral(f"00000000{number:02}"), "device", device, "time", number)
    client.call("ZADD", keys.peripherals(device), number, f"00000000{number:02}")
    client.call("HSET", keys.command(command), "device", device, "state", "sent", "created_at", "2026")
    client.call("PEXPIREAT", keys.command(command), FAR)
    client.call("ZADD", keys.deadlines, 1900000000 + number, command)
    client.call("ZADD", keys.recent_commands, number, command)
    client.call("HSET", keys.under_way("gw1"), command, json.dumps({"id": command, "device": device}))
    client.call("RPUSH", keys.waiting(device), json.dumps({"id": f"w-{number}"}))
    client.call("PEXPIREAT", keys.waiting(device), FAR)
    client.call("HSET", keys.unsettled(device), f"u-{number}", "1.0 gw1")
    for step in range(5):
        # The ids of several partitions are the same.
        client.call(
            "XADD", keys.events, f"{1000 + number // 2}-*", "kind", "lock", "device", device, "event", step
        )
        client.call("XADD", keys.history(device), f"{1000 + step}-0", "kind", "lock", "event", step)


Content = dict[Any, Any]


def _content(client: RedisClient, key: bytes) -> Any:
    kind = client.call("TYPE", key)
    command = {
        b"string": ("GET", key),
        b"hash": ("HGETALL", key),
        b"list": ("LRANGE", key, 0, -1),
        b"set": ("SMEMBERS", key),
        b"zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
        b"stream": ("XRANGE", key, "-", "+"),
    }[kind]
    found = client.call(*command)
    if kind == b"hash" or kind == b"zset":
        return sorted(zip(found[::2], found[1::2], strict=True))
    return sorted(found) if kind == b"set" else found


def keys_of(
    where: Store, clients: Sequence[RedisClient], moving: bool = False
) -> list[tuple[int, Name, bytes]]:
    """Return all keys of a store: partition, name and key. AssertionError for any other under its prefix.

    While they are `moving`, keys of the move are left out.
    """
    found = []
    for place in where.places:
        client = clients[place.number % len(clients)]
        beginning = place.keys.prefix.encode() + b":"
        for key in sorted(client.call("KEYS", beginning.decode() + "*")):
            text = key[len(beginning) :]
            if (where.count == 1 and text.startswith(b"{")) or (moving and text.startswith(b"repartition")):
                continue
            name = parse_name(text)
            assert name is not None, key
            found.append((place.number, name, key))
    return found


def content(where: Store, clients: Sequence[RedisClient], moving: bool = False) -> Content:
    """Return what a store has, whatever its partitions; each key and element once."""
    found: Content = {}
    elements: Counter[Any] = Counter()
    for number, name, key in keys_of(where, clients, moving):
        client = clients[number % len(clients)]
        if name.fate in (Fate.WHOLE, Fate.OWNED):
            assert (name.kind, name.of) not in found, key
            found[name.kind, name.of] = (_content(client, key), client.call("PEXPIRETIME", key))
        elif name.kind == "imei":
            found.setdefault(name.kind, {}).update(dict(_content(client, key)))
        elif name.kind in ("events", "malformed"):
            elements.update((name.kind, tuple(fields)) for _, fields in _content(client, key))
        elif name.kind == "let_go":
            for field, count in _content(client, key):
                elements[name.kind, field] += int(count)
        elif name.fate in (Fate.SPLIT, Fate.LIST):
            elements.update((name.kind, name.of, one) for one in _content(client, key))
        elif name.fate is Fate.PASSED_ON:
            elements.update(("waiting commands", one) for one in _content(client, key))
        elif name.kind == "gateways":
            found[name.kind] = _content(client, key)
    found["elements"] = elements
    return found


def after_passing(wanted: Content) -> Content:
    """Return the content that is there after a move: transfers were delivered."""
    elements: Counter[Any] = Counter()
    replies = dict(wanted)
    for element, count in wanted["elements"].items():
        if element[0] == "waiting commands" and b'"at"' in element[1]:
            transfer = json.loads(element[1])
            if "reply_to" in transfer:
                name = transfer["reply_to"].encode()
                entries, _ = replies["reply", name]
                replies["reply", name] = ([*entries, transfer["entry"].encode()], None)
            else:
                elements["waiting commands", transfer["entry"].encode()] += count
        else:
            elements[element] += count
    return {**replies, "elements": elements}


def misplaced(where: Store, clients: Sequence[RedisClient]) -> list[bytes]:
    """Return the keys, and names in shared keys, that are in a partition where nobody looks for them."""
    wrong = []
    number_of = where.partitions.number
    for number, name, key in keys_of(where, clients):
        client = clients[number % len(clients)]
        if FATES[name.kind] is Fate.WHOLE and number_of(name.owner) != number:
            wrong.append(key)
        if (
            FATES[name.kind] is Fate.OWNED
            and number_of(client.call("HGET", key, "device").decode()) != number
        ):
            wrong.append(key)
        if name.kind in ("devices", "histories", "allowed", "labels", "online_at"):
            members = [one[0] if isinstance(one, tuple) else one for one in _content(client, key)]
            wrong += [one for one in members if number_of(one.decode()) != number]
        if name.kind == "events":
            last = (0, 0)
            for entry, fields in _content(client, key):
                found = tuple(map(int, entry.split(b"-")))
                assert found > last, (entry, last)
                last = found
                if number_of(fields[3].decode()) != number:
                    wrong.append(entry)
        if name.kind == "imei":
            for imei, device in _content(client, key):
                if number not in (number_of(imei.decode()), number_of(device.decode())):
                    wrong.append(imei)
    return wrong
