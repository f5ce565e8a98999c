"""Keys of every kind are moved to another number of partitions, on real servers."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partition_marker import moved_to
from jt709c_gateway.redis.repartition.names import FATES, parse_name
from jt709c_gateway.redis.repartition.stores import MoveError, Store
from tests.support import ValkeyServer
from tests.support.repartition import (
    DEVICES,
    FAR,
    IMEIS,
    after_passing,
    content,
    finish,
    keys_of,
    misplaced,
    move,
)
from tests.support.repartition_case import MoveCase


class NameTests(SynchronousTestCase):
    def test_every_key(self) -> None:
        """No key of the contract is forgotten, and each is recognised."""
        kinds = {name for name in vars(Keys) if not name.startswith("_")} - {
            *("prefix", "channel", "channels", "count")
        }
        self.assertEqual(kinds, set(FATES))
        keys = Keys("")
        for kind in kinds:
            found = getattr(keys, kind)
            if not isinstance(found, str):
                found = found("gw", "boot") if kind == "commit_marker" else found("x:y")
            name = parse_name(found[1:].encode())
            assert name is not None
            self.assertEqual(name.kind, kind)

    def test_others(self) -> None:
        for text in (b"", b"device", b"device:", b"other", b"other:x", b"commands:what", b"commands:what:x"):
            self.assertIsNone(parse_name(text), text)


class MoveTests(MoveCase):
    def test_numbers(self) -> None:
        """From any number to any other, and back; a partition that is no more says how many there are."""
        before = self.filled(1)
        for count in (4, 8, 3, 1):
            after = self.store(count)
            self.check_moved(before, after)
            if count != 1:
                self.assertEqual(self.refused_single(), [f"{self.prefix}:partitions".encode()])
            for place in before.places:
                if not after.has(place):
                    marker = self.clients[0].call("GET", place.keys.partitions)
                    self.assertEqual(marker, moved_to(self.prefix, count))
            before = after

    def refused_single(self) -> list[bytes]:
        """The keys of a single partition that are left."""
        found: list[bytes] = self.clients[0].call("KEYS", f"{self.prefix}:[a-z]*")
        return found

    def test_runs(self) -> None:
        """The numbers of runs go on from the highest."""
        before, after = self.filled(4), self.store(2)
        move(before, after)
        runs = [self.clients[0].call("GET", place.keys.epoch) for place in after.places]
        self.assertEqual(runs, [b"9", b"9"])

    def test_prefixes(self) -> None:
        """To another prefix, where the old one says where they are."""
        before, after = self.filled(1), self.store(4, f"{self.prefix}x")
        self.check_moved(before, after)
        marker = json.loads(self.clients[0].call("GET", f"{self.prefix}:partitions"))
        self.assertEqual(marker, {"type": "moved", "after": 4, "prefix": f"{self.prefix}x"})
        self.assertEqual(len(self.refused_single()), 1)

    def test_servers(self) -> None:
        """From one server to two others, whose addresses the old one has."""
        servers = [ValkeyServer().start() for _ in range(2)]
        for one in servers:
            self.addCleanup(one.discard)
        others = [self.client(one) for one in servers]
        before = self.filled(2)
        wanted = after_passing(content(before, self.clients))
        mine, self.clients = self.clients, others
        self.addCleanup(setattr, self, "clients", mine)
        after = self.store(3, servers="redis://b redis://c")
        move(before, after)
        self.check(wanted, after)
        left = [(name.kind, number) for number, name, _ in keys_of(before, mine)]
        self.assertEqual(left, [("partitions", 0), ("partitions", 1)])
        marker = json.loads(mine[0].call("GET", before.places[0].keys.partitions))
        self.assertEqual((marker["after"], marker["servers"]), (3, "redis://b redis://c"))

    def test_another_server(self) -> None:
        """A second server is added, and the first keeps a part of its keys."""
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        before = self.filled(2)
        wanted = after_passing(content(before, self.clients))
        mine, self.clients = self.clients, [*self.clients, self.client(server)]
        self.addCleanup(setattr, self, "clients", mine)
        after = self.store(4, servers="redis://here redis://there")
        move(before, after)
        self.check(wanted, after)
        self.assertIn("nothing to do", move(before, after))
        marker = json.loads(mine[0].call("GET", before.places[1].keys.partitions))
        self.assertEqual(marker["servers"], "redis://here redis://there")

    def test_again(self) -> None:
        """Run again after the end, it passes on what was pushed to old lists since."""
        before, after = self.filled(1), self.store(4)
        move(before, after)
        self.assertIn("nothing to do", move(before, after))
        self.clients[0].call("RPUSH", before.places[0].keys.commands, "late 1", "late 2")
        self.clients[0].call("RPUSH", after.places[2].keys.transfers, "of a gateway that runs")
        self.clients[0].call("SET", after.places[2].keys.gateway("gw1"), "alive")
        self.assertIn("2 commands were pushed to old lists", move(before, after))
        found = self.clients[0].call("LRANGE", after.places[0].keys.commands, -2, -1)
        self.assertEqual(found, [b"late 1", b"late 2"])
        self.assertEqual(self.clients[0].call("LLEN", after.places[2].keys.transfers), 1)
        self.assertEqual(self.clients[0].call("KEYS", f"{self.prefix}*repartition*"), [])

    def test_long(self) -> None:
        """Long audit trails and tracks are copied in steps, and streams of many events."""
        before, after = self.filled(1), self.store(3)
        keys, client = before.places[0].keys, self.clients[0]
        for number in range(5_600):
            client.call("XADD", keys.history(DEVICES[0]), f"5000-{number}", "event", number)
            client.call("XADD", keys.events, f"5000-{number}", "kind", "lock", "device", DEVICES[number % 24])
        client.call("XDEL", keys.history(DEVICES[0]), "5000-5599")
        # Its fields have another order in each copy.
        client.call("HSET", keys.device(DEVICES[2]), *range(2_000))
        client.call("RPUSH", keys.track(DEVICES[1]), *range(5_600))
        client.call("PEXPIREAT", keys.track(DEVICES[1]), FAR)
        self.check_moved(before, after)
        moved = after.places[after.partitions.number(DEVICES[0])].keys
        info = client.call("XINFO", "STREAM", moved.history(DEVICES[0]))
        self.assertEqual(info[info.index(b"last-generated-id") + 1], b"5000-5599")

    def test_pushed_meanwhile(self) -> None:
        """Commands that producers push to old lists while keys are moved are passed on, too."""
        pushed = 0

        def push(command: Any) -> None:
            nonlocal pushed
            if command[0] != "RPUSH" and pushed < 30:
                self.clients[0].call("RPUSH", before.places[0].keys.commands, f"pushed {pushed}")
                pushed += 1

        before = self.filled(1)
        after = self.store(4, before_call=push)
        move(before, after)
        found = self.clients[0].call("LRANGE", after.places[0].keys.commands, 0, -1)
        self.assertEqual(
            [one for one in found if one.startswith(b"p")], [b"pushed %d" % n for n in range(30)]
        )

    def test_intakes_first(self) -> None:
        """What a dead gateway had taken comes before what waits behind it."""
        before, after = self.filled(1), self.store(2)
        move(before, after)
        found = self.clients[0].call("LRANGE", after.places[0].keys.commands, 0, -1)
        self.assertEqual([json.loads(one) for one in found[:2]], [{"taken": 0}, {"n": 0, "k": 0}])

    def test_imeis(self) -> None:
        """Of several devices with one IMEI, the one that it leads to is the same as before."""
        before = self.filled(8)
        client, imei = self.clients[0], "869999999999999"
        at = before.partitions.number_of(imei)
        claimants = [one for one in DEVICES if before.partitions.number(one) != at][:5]
        for device in claimants:
            client.call("HSET", before.partitions.keys_of(device).imei, imei, device)
        client.call("HSET", before.places[at].keys.imei, imei, claimants[3])
        for count in (4, 2, 1):
            after = self.store(count)
            move(before, after)
            found = client.call("HGET", after.partitions.keys_of(imei).imei, imei)
            self.assertEqual(found, claimants[3].encode())
            self.assertEqual(misplaced(after, self.clients), [])
            before = after

    def test_undecided_imeis(self) -> None:
        """Nobody has noted an IMEI in its partition yet: it leads to one of its devices."""
        before = self.filled(8)
        imei = "869999999999999"
        at = before.partitions.number_of(imei)
        claimants = [one for one in DEVICES if before.partitions.number(one) != at][:5]
        for device in claimants:
            self.clients[0].call("HSET", before.partitions.keys_of(device).imei, imei, device)
        move(before, self.store(1))
        found = self.clients[0].call("HGET", f"{self.prefix}:imei", imei)
        self.assertIn(found.decode(), claimants)
        self.assertEqual(len(IMEIS) + 1, self.clients[0].call("HLEN", f"{self.prefix}:imei"))


class GroupTests(MoveCase):
    """Consumer groups of the streams of events."""

    def read(self, group: str, place: int, count: int, before: Store, ack: bool = True) -> None:
        key = before.places[place].keys.events
        found = self.clients[0].call("XREADGROUP", "GROUP", group, "c", "COUNT", count, "STREAMS", key, ">")
        entries = [entry for entry, _ in found[0][1]] if found else []
        if ack and entries:
            self.clients[0].call("XACK", key, group, *entries)

    def left(self, group: str, after: Store) -> int:
        """The number of entries that a group gets in all new streams."""
        total = 0
        for place in after.places:
            found = self.clients[0].call("XREADGROUP", "GROUP", group, "c", "STREAMS", place.keys.events, ">")
            total += len(found[0][1]) if found else 0
        return total

    def test_carried_over(self) -> None:
        """A group that has read all goes on there; others get what they have not acknowledged, and more."""
        before, after = self.filled(2), self.store(3)
        client = self.clients[0]
        for place in before.places:
            for group in ("all", "none", "behind", "pending"):
                client.call("XGROUP", "CREATE", place.keys.events, group, "0")
            for group in ("all", "pending"):
                self.read(group, place.number, 1000, before, ack=group == "all" or place.number == 0)
        client.call("XGROUP", "CREATE", before.places[0].keys.events, "half", "$")
        self.read("behind", 0, 1000, before)
        self.read("behind", 1, 5, before)
        total = 5 * len(DEVICES)
        in_second = client.call("XLEN", before.places[1].keys.events)
        move(before, after)
        self.assertEqual(self.left("all", after), 0)
        self.assertEqual(self.left("none", after), total)
        self.assertEqual(self.left("half", after), total)
        self.assertGreaterEqual(self.left("pending", after), in_second)
        behind = self.left("behind", after)
        self.assertTrue(in_second - 5 <= behind < total, (behind, in_second, total))


class RefusalTests(MoveCase):
    """Nothing is written when the move can't begin."""

    def check_untouched(self, before: Store, act: Any) -> str:
        wanted = content(before, self.clients)
        text = str(act())
        self.assertEqual(content(before, self.clients), wanted)
        self.assertEqual(self.clients[0].call("KEYS", f"{self.prefix}*repartition*"), [])
        return text

    def test_gateway(self) -> None:
        """In any partition."""
        before = self.filled(4)
        self.clients[0].call("SET", before.places[3].keys.gateway("gw2"), "{}", "PX", 60_000)
        text = self.check_untouched(before, lambda: self.refusal(before, self.store(8)))
        self.assertIn("gateways run: gw2; stop them all", text)

    def test_unknown(self) -> None:
        """Keys that are none of ours are named, or left where they are."""
        before = self.filled(1)
        for number in range(7):
            self.clients[0].call("SET", f"{self.prefix}:extra:{number}", "x")
        text = self.assertRaises(MoveError, move, before, self.store(4))
        self.assertIn(f"7 keys under this prefix are none of the gateway's: {self.prefix}:extra:", str(text))
        self.assertEqual(self.clients[0].call("KEYS", f"{self.prefix}*repartition*"), [])
        move(before, self.store(4), leave_unknown=True)
        self.assertEqual(len(self.clients[0].call("KEYS", f"{self.prefix}:extra:*")), 7)

    def test_numbers(self) -> None:
        """The store has another number, or nothing."""
        self.assertIn("there are no keys of 1 partition", self.refusal(self.store(1), self.store(4)))
        before = self.filled(4)
        for wrong in (1, 2, 8):
            text = self.check_untouched(
                before, lambda wrong=wrong: self.refusal(self.store(wrong), self.store(6))
            )
            self.assertIn("are in 4 partitions: give --from 4", text)

    def test_occupied(self) -> None:
        """Keys of an earlier fleet are in the way; commands that were pushed there already are not."""
        before, after = self.filled(2), self.store(4)
        self.clients[0].call("RPUSH", after.places[3].keys.commands, "early")
        self.clients[0].call("SET", after.places[3].keys.epoch, 1)
        text = self.refusal(before, after)
        self.assertIn(f"{after.places[3].keys.epoch} exists where keys are to be moved to", text)
        self.clients[0].call("DEL", after.places[3].keys.epoch)
        move(before, after)
        self.assertEqual(self.clients[0].call("LINDEX", after.places[3].keys.commands, 0), b"early")

    def test_dry_run(self) -> None:
        before = self.filled(4)
        found: list[Any] = []

        def act() -> None:
            found.append(finish(lambda mover: mover.plan(), before, self.store(8)))

        self.check_untouched(before, act)
        self.assertEqual(found[0].counts["device"], len(DEVICES))
        self.assertEqual(found[0].total, len(keys_of(before, self.clients)))

    def test_nothing_to_abandon(self) -> None:
        before = self.filled(4)
        work = lambda mover: mover.abandon()  # noqa: E731
        error = self.assertRaises(MoveError, finish, work, before, self.store(8))
        self.assertIn("no move has begun", str(error))


class SameNameTests(MoveCase):
    """Two old partitions have keys of one name, which get into one new partition."""

    def command(self, before: Store, place: int, device: str, state: str, created: str = "2026") -> None:
        key = before.places[place].keys.command("twice")
        self.clients[0].call("HSET", key, "device", device, "state", state, "created_at", created)

    def pair(self, before: Store) -> tuple[str, str]:
        """A device of partition 0 and one of partition 1."""
        number = before.partitions.number
        return tuple(next(one for one in DEVICES if number(one) == place) for place in (0, 1))  # type: ignore[return-value]

    def test_open_commands(self) -> None:
        """Neither is given up."""
        before, after = self.filled(2), self.store(1)
        first, second = self.pair(before)
        self.command(before, 0, first, "waiting")
        self.command(before, 1, second, "uncertain")
        text = self.refusal(before, after)
        self.assertIn(f"two commands have the id twice, for {first} and {second}", text)
        finish(lambda mover: mover.abandon(), before, after)
        self.assertEqual(self.clients[0].call("KEYS", f"{self.prefix}*repartition*"), [])
        self.assertEqual(self.clients[0].call("GET", before.places[1].keys.partitions), b"2")

    def test_ended_command(self) -> None:
        """The open one is kept, or the later one."""
        for states, kept in ((("done", "sent"), 1), (("sent", "failed"), 0), (("done", "done"), 1)):
            self.begin_anew()
            before, after = self.filled(2), self.store(1)
            devices = self.pair(before)
            for place, state in enumerate(states):
                self.command(before, place, devices[place], state, f"202{place}")
            move(before, after)
            found = self.clients[0].call("HGET", f"{self.prefix}:command:twice", "device")
            self.assertEqual(found, devices[kept].encode(), states)

    def test_sublock(self) -> None:
        """It has changed its master: where it was heard last counts."""
        before, after = self.filled(2), self.store(1)
        devices = self.pair(before)
        for place, time in enumerate((20.5, 3)):
            key = before.places[place].keys.peripheral("0100000001")
            self.clients[0].call("HSET", key, "device", devices[place], "time", time)
        move(before, after)
        found = self.clients[0].call("HGET", f"{self.prefix}:peripheral:0100000001", "device")
        self.assertEqual(found, devices[0].encode())
