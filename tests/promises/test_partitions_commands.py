"""Promise 2 with several partitions: a command finds its device's partition, and is carried out once."""

import json
from datetime import datetime

from jt709c_gateway.commands.forwarding import forwarded_entry
from jt709c_gateway.gateway.commands import partition_routing
from jt709c_gateway.redis import scripts, transfers
from jt709c_gateway.redis.transfers import read_transfer
from tests.support.command_bench import GATEWAY_TTL, START
from tests.support.commands import new_id
from tests.support.partitioned import device_in
from tests.support.partitioned_bench import COUNT, PartitionedCase, PartitionedNode, unlock


class ForwardingTests(PartitionedCase):
    """Commands that were pushed to the list of another partition."""

    def test_each_list(self) -> None:
        """Commands of every device in every list, with and without an id, are each written once."""
        links = [self.node.come(lock) for lock in self.locks]
        for lock in self.locks:
            for number in range(COUNT):
                self.push(number, unlock(lock.device, id=new_id(), ttl=3600))
                self.push(number, unlock(lock.device, ttl=3600))
        self.node.pass_time(1)
        for lock, link in zip(self.locks, links, strict=True):
            done = 0
            while len(found := self.unlocks(link)) > done:
                self.assertEqual(len(found), done + 1)
                self.node.open(lock, link, found[-1])
                done += 1
                self.node.pass_time(0.5)
            self.assertEqual(done, 2 * COUNT)
        self.assertEqual([self.transfers(number) for number in range(COUNT)], [0] * COUNT)

    def lose_the_reply(self, entry: str) -> None:
        """Push an entry to the wrong list; the reply that it has arrived in the right one is lost."""
        self.push(0, entry)
        self.until_pending(1, scripts.DELIVER.form_for(self.layout.keys[1]).hash)
        self.node.parts[1].lose(executed=len(self.node.parts[1].wire.pending))
        self.node.pass_time(5)
        self.node.parts[1].reconnect()
        self.node.pass_time(8)

    def test_reply_lost(self) -> None:
        """An entry that is forwarded twice, since the first reply was lost, is one command."""
        self.lose_the_reply(unlock(self.locks[1].device, id=new_id(), ttl=3600))
        self.assertEqual(self.waiting(self.locks[1].device), 1)

    def test_reply_lost_without_id(self) -> None:
        """So is one without an id: it got one before it was forwarded."""
        self.lose_the_reply(unlock(self.locks[1].device, ttl=3600))
        self.assertEqual(self.waiting(self.locks[1].device), 1)

    def test_gateway_dies_in_between(self) -> None:
        """A gateway dies after it has forwarded an entry without an id; another gateway goes on."""
        self.push(0, unlock(self.locks[1].device, ttl=3600))
        self.until_pending(1, scripts.DELIVER.form_for(self.layout.keys[1]).hash)
        for one in self.node.parts:
            one.lose(executed=len(one.wire.pending))
        other = PartitionedNode(self.guarded, self.layout, "gw2", self.node.clock.seconds()).start()
        self.redis.call("DEL", *[keys.gateway("gw1") for keys in self.layout])
        other.pass_time(2 * GATEWAY_TTL)
        self.assertEqual(self.waiting(self.locks[1].device), 1)
        self.assertEqual(self.transfers(0), 0)

    def test_forwarded_again(self) -> None:
        """An entry that was forwarded goes on to another partition unchanged."""
        command = new_id()
        self.push(0, unlock(self.locks[1].device, id=command, ttl=3600))
        self.node.parts[1].lose()
        self.node.pass_time(1)
        (stored,) = self.redis.call("LRANGE", self.layout.keys[0].transfers, 0, -1)
        transfer = read_transfer(stored)
        self.node.parts[1].reconnect()
        self.push(2, transfer.entry)
        self.node.pass_time(5)
        self.assertEqual(self.client.state(command), "waiting")
        self.assertEqual(self.waiting(self.locks[1].device), 1)

    def test_cancel(self) -> None:
        """A `cancel` behind its command, both in another partition's list, takes the command back."""
        command, cancel = new_id(), new_id()
        device = self.locks[2].device
        self.push(0, unlock(device, id=command))
        self.push(
            0, json.dumps({"id": cancel, "device": device, "command": "cancel", "params": {"id": command}})
        )
        self.node.pass_time(2)
        self.assertEqual(self.client.state(command), "cancelled")
        self.assertEqual(self.client.state(cancel), "done")

    def test_clear_lockout(self) -> None:
        """`clear_lockout` acts in the partition of its device."""
        device = self.locks[3].device
        self.node.come(self.locks[3])
        state = self.layout.keys[3].device(device)
        self.redis.call("HSET", state, "wrong_passwords", 2)
        self.push(1, json.dumps({"device": device, "command": "clear_lockout"}))
        self.node.pass_time(2)
        self.assertEqual(self.redis.call("HGET", state, "wrong_passwords"), b"0")

    def test_invalid(self) -> None:
        """An invalid command is rejected in the partition of its device, with its outcome in its list."""
        device, command = self.locks[1].device, new_id()
        self.node.come(self.locks[1])
        self.push(2, json.dumps({"id": command, "device": device, "command": "nonsense", "reply_to": "x"}))
        self.node.pass_time(2)
        self.assertEqual(self.client.state(command), "invalid")
        self.assertTrue(self.redis.call("EXISTS", self.layout.keys[1].command(command)))
        self.assertEqual(self.client.reply("x")["state"], "invalid")


class AwayTests(PartitionedCase):
    """Commands for a partition that is away."""

    def setUp(self) -> None:
        super().setUp()
        self.device = self.locks[1].device
        self.node.parts[1].lose()

    def back(self) -> None:
        self.node.parts[1].reconnect()
        self.node.pass_time(8)

    def test_parked(self) -> None:
        """They wait in the partitions that they were pushed to, and are sent later, in their order."""
        commands = [new_id() for _ in range(40)]
        for command in commands:
            self.push(0, unlock(self.device, id=command, ttl=3600))
        self.node.pass_time(10)
        self.assertEqual(self.transfers(0), 40)
        self.back()
        self.assertEqual(self.transfers(0), 0)
        queue = self.redis.call("LRANGE", self.layout.keys[1].waiting(self.device), 0, -1)
        self.assertEqual([json.loads(entry)["id"] for entry in queue], commands)

    def test_others_are_not_held_up(self) -> None:
        """Any number of them does not hold up a command for another partition."""
        for _ in range(200):
            self.push(0, unlock(self.device, ttl=3600))
        command = new_id()
        self.push(0, unlock(self.locks[2].device, id=command, ttl=3600))
        self.node.pass_time(1)
        self.assertEqual(self.client.state(command), "waiting")

    def test_too_many(self) -> None:
        """When enough are parked, further ones stay in the intake list, and hold up no other."""
        self.patch(transfers, "MAX_TRANSFERS", 10)
        for _ in range(100):
            self.push(0, unlock(self.device, ttl=3600))
        command = new_id()
        self.push(0, unlock(self.locks[2].device, id=command, ttl=3600))
        self.node.pass_time(3)
        self.assertEqual(self.client.state(command), "waiting")
        self.assertEqual(self.transfers(0), 10)
        left = self.redis.call("LRANGE", self.layout.keys[0].commands, 0, -1)
        self.assertEqual(len(left), 90)
        # Each has the time at which it was first taken, and its id, by now.
        self.assertTrue(all(forwarded_entry(one) is not None for one in left))
        self.back()
        self.node.pass_time(30)
        self.assertEqual(self.waiting(self.device), 100)

    def test_ttl(self) -> None:
        """The ttl of a parked command counts from when it was first taken: it ends expired."""
        short, long = new_id(), new_id()
        self.push(0, unlock(self.device, id=short, ttl=20, reply_to="x"))
        self.push(0, unlock(self.device, id=long, ttl=3600))
        self.node.pass_time(30)
        self.assertEqual(self.client.state(short), "")
        self.back()
        self.assertEqual(self.client.state(short), "expired")
        self.assertEqual(self.client.state(long), "waiting")
        taken = datetime.fromisoformat(self.client.record(long)["created_at"]).timestamp()
        self.assertLess(taken - START, 2)
        self.assertEqual(self.client.reply("x")["state"], "expired")

    def test_hangs(self) -> None:
        """A partition that hangs, and doesn't answer, holds up no command for another for long."""
        self.node.parts[1].wire.connected = self.node.parts[1].blocking.connected = True
        self.node.parts[1].wire.step = lambda: False  # type: ignore[method-assign]
        for _ in range(40):
            self.push(0, unlock(self.device, ttl=3600))
        command = new_id()
        self.push(0, unlock(self.locks[2].device, id=command, ttl=3600))
        self.node.pass_time(2.5)
        self.assertEqual(self.client.state(command), "waiting")
        self.assertEqual(self.transfers(0), 40)

    def test_refuses(self) -> None:
        """Commands are parked, too, while another partition refuses every write."""
        self.back()
        wire = self.node.parts[1].wire
        execute, refused = wire._execute, []
        deliver = scripts.DELIVER.form_for(self.layout.keys[1]).hash

        def refuse(arguments: tuple[object, ...]) -> object:
            if deliver in arguments[:2]:
                refused.append(arguments)
                return partition_routing.txredisapi.ResponseError("OOM command not allowed")
            return execute(arguments)

        wire._execute = refuse  # type: ignore[method-assign]
        command = new_id()
        self.push(0, unlock(self.device, id=command, ttl=3600))
        self.node.pass_time(5)
        self.assertTrue(refused)
        self.assertEqual(self.transfers(0), 1)
        wire._execute = execute  # type: ignore[method-assign]
        self.node.pass_time(5)
        self.assertEqual(self.client.state(command), "waiting")

    def test_one_of_another_type(self) -> None:
        """A list of outcomes that is no list holds up no other transfer, and lets go after its time."""
        self.back()
        name = next(f"list-{one}" for one in range(99) if self.layout.number(f"list-{one}") == 1)
        other = next(f"good-{one}" for one in range(99) if self.layout.number(f"good-{one}") == 1)
        self.redis.call("SET", self.layout.keys[1].reply(name), "x")
        for reply_to in (name, other):
            self.push(0, unlock(self.locks[2].device, ttl=1, reply_to=reply_to))
        self.node.pass_time(6)
        self.assertEqual(self.client.reply(other)["state"], "expired")
        self.assertEqual(self.transfers(2), 1)
        self.node.clock.advance(3601)
        self.node.pass_time(3)
        self.assertEqual(self.transfers(2), 0)

    def test_many_do_not_hide_others(self) -> None:
        """What can't be delivered does not keep what is stored behind it from being delivered."""
        self.patch(partition_routing, "_MOST", 20)
        self.patch(partition_routing, "_PAGE", 10)
        for _ in range(50):
            self.push(0, unlock(self.device, ttl=3600))
        self.node.pass_time(2)
        command = new_id()
        entry = json.dumps({"at": 0.0, "entry": unlock(self.locks[2].device, id=command), "to": 2})
        self.redis.call("RPUSH", self.layout.keys[0].transfers, entry)
        self.node.pass_time(6)
        self.assertEqual(self.client.state(command), "waiting")
        self.assertEqual(self.transfers(0), 50)


class OutcomeTests(PartitionedCase):
    """Outcomes for a `reply_to` list in another partition."""

    def names(self) -> list[str]:
        return [
            next(f"list-{one}" for one in range(99) if self.layout.number(f"list-{one}") == number)
            for number in range(COUNT)
        ]

    def test_at_once(self) -> None:
        """They are delivered with the commit, to whichever partition, once."""
        link = self.node.come(self.locks[1])
        for name in self.names():
            command = new_id()
            self.push(1, unlock(self.locks[1].device, id=command, reply_to=name))
            self.node.pass_time(0.2, tick=0.1)
            self.node.open(self.locks[1], link, self.unlocks(link)[-1])
            self.node.run()
            self.assertEqual(self.client.reply(name)["id"], command)
        self.node.pass_time(5)
        self.assertEqual(self.transfers(1), 0)
        for name in self.names():
            self.assertEqual(
                self.redis.call("LLEN", self.layout.keys[self.layout.number(name)].reply(name)), 0
            )

    def test_known_id(self) -> None:
        """The outcome of a command that is pushed again comes again."""
        command, (name, *_) = new_id(), self.names()
        for _ in range(2):
            self.push(0, unlock(self.locks[1].device, id=command, ttl=1, reply_to=name))
            self.node.pass_time(4)
            self.assertEqual(self.client.reply(name)["state"], "expired")

    def test_while_away(self) -> None:
        """While their partition is away they are stored, and delivered later."""
        name = self.names()[3]
        self.node.parts[3].lose()
        self.push(1, unlock(self.locks[1].device, ttl=1, reply_to=name))
        self.node.pass_time(6)
        self.assertEqual(self.transfers(1), 1)
        self.node.parts[3].reconnect()
        self.node.pass_time(4)
        self.assertEqual(self.client.reply(name)["state"], "expired")
        self.assertEqual(self.transfers(1), 0)

    def test_bounded(self) -> None:
        """No more of them are stored than there may be."""
        self.patch(transfers, "MAX_TRANSFERS", 10)
        self.patch(partition_routing, "MAX_TRANSFERS", 10)
        name = self.names()[3]
        self.node.parts[3].lose()
        for _ in range(30):
            device = device_in(self.layout, 1, 5)
            self.push(
                1, json.dumps({"device": device, "command": "nonsense", "id": new_id(), "reply_to": name})
            )
            self.node.pass_time(1)
        self.assertLessEqual(self.transfers(1), 12)
        self.assertGreaterEqual(self.transfers(1), 10)
