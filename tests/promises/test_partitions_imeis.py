"""Promise 2 with several partitions: commands by IMEI, and signed ones, that wait on their way."""

import json

from jt709c_gateway.commands.signing import SigningKey, SigningKeys
from jt709c_gateway.gateway.commands.authorization import CommandAuthorizer
from jt709c_gateway.protocol import jt709x
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.partitions import Partitions
from tests.support.command_bench import START
from tests.support.commands import PASSWORD, new_id
from tests.support.committer import FakeLink
from tests.support.partitioned_bench import COUNT, PartitionedCase, unlock
from tests.support.signing import SECRET, command_text, id_of, sign


class ImeiTests(PartitionedCase):
    """Devices that are named by their IMEI, which is in another partition than the device."""

    def setUp(self) -> None:
        super().setUp()
        self.lock = self.locks[1]
        #: An IMEI of partition 3.
        self.imei = imei_in(self.layout, 3)

    def item(self) -> bytes:
        """Return the item of a report with its IMEI."""
        return bytes([jt709x.IMEI, len(self.imei)]) + self.imei.encode()

    def tell_imei(self) -> None:
        link = FakeLink("tcp", "192.0.2.7:50112")
        link.connection = self.node.gateway.open(link)
        self.node.feed(link, self.lock.location(self.item(), at=START + self.node.clock.seconds()))
        self.node.pass_time(1)
        self.assertEqual(
            self.redis.call("HGET", self.layout.keys[3].imei, self.imei), self.lock.device.encode()
        )

    def test_noted(self) -> None:
        """A command by IMEI, in any list, reaches the device."""
        self.tell_imei()
        commands = [new_id() for _ in range(COUNT)]
        for number, command in enumerate(commands):
            self.push(number, unlock(self.imei, id=command, ttl=3600))
        self.node.pass_time(2)
        for command in commands:
            self.assertIn(self.client.state(command), ("queued", "sent"))
            self.assertTrue(self.redis.call("EXISTS", self.layout.keys[1].command(command)))

    def test_waiting_commands_move_once(self) -> None:
        """Commands that wait under an IMEI move to the device that reports it, once, in their order."""
        commands = [new_id() for _ in range(10)]
        for command in commands:
            self.push(0, unlock(self.imei, id=command, ttl=3600))
        self.node.pass_time(2)
        self.assertEqual([self.client.state(one) for one in commands], ["waiting"] * 10)
        self.tell_imei()
        self.node.pass_time(5)
        keys = self.layout.keys
        self.assertEqual(self.redis.call("LLEN", keys[3].waiting(self.imei)), 0)
        self.assertEqual(self.redis.call("HLEN", keys[3].under_way("gw1")), 0)
        self.assertEqual([self.redis.call("EXISTS", keys[3].command(one)) for one in commands], [0] * 10)
        first, *rest = commands
        self.assertEqual(self.client.state(first), "sent")
        queue = self.redis.call("LRANGE", keys[1].waiting(self.lock.device), 0, -1)
        self.assertEqual([json.loads(entry)["id"] for entry in queue], rest)

    def test_noted_later(self) -> None:
        """While the partition of the IMEI is away, a command waits, and the IMEI is noted later."""
        self.node.parts[3].lose()
        command = new_id()
        self.push(0, unlock(self.imei, id=command, ttl=3600))
        link = self.node.come(self.lock)
        self.node.feed(link, self.lock.location(self.item(), at=START + self.node.clock.seconds()))
        self.node.pass_time(5)
        self.assertEqual(self.unlocks(link), [])
        self.node.parts[3].reconnect()
        self.node.pass_time(8)
        self.assertEqual(len(self.unlocks(link)), 1)
        self.assertEqual(self.client.state(command), "sent")

    def test_named_while_it_is_taken(self) -> None:
        """A lock reports its IMEI between the look-up of a command and its acceptance."""
        command = new_id()
        self.push(3, unlock(self.imei, id=command, ttl=3600))
        self.until_pending(3, scripts.ACCEPT.form_for(self.layout.keys[0]).hash)
        self.redis.call("HSET", self.layout.keys[3].imei, self.imei, self.lock.device)
        self.node.pass_time(3)
        self.assertEqual(self.waiting(self.lock.device), 1)
        self.assertFalse(self.redis.call("EXISTS", self.layout.keys[3].command(command)))

    def test_bounded(self) -> None:
        """No more IMEIs of other partitions' devices are kept than there may be."""
        self.node.imeis.limit = 50
        for number in range(400):
            self.node.imeis.note(str(490154203300000 + number), self.lock.device)
        self.node.pass_time(1)
        for keys in self.layout:
            self.assertLessEqual(self.redis.call("HLEN", keys.imei), 50)


class SignedTests(PartitionedCase):
    """Signed commands that wait before they reach the partition of their device."""

    def authorizer(self) -> CommandAuthorizer:
        return CommandAuthorizer(SigningKeys({"k1": SigningKey("k1", SECRET)}, 60.0))

    def signed(self, device: str, **more: object) -> tuple[str, str]:
        """Return the id and the entry of an unlock that is signed now."""
        now = START + self.node.clock.seconds()
        text = command_text(device, "unlock", {"password": PASSWORD}, issued_at=now, ttl=3600, **more)
        entry = sign(text)
        return id_of(entry), entry.decode()

    def test_parked(self) -> None:
        """A command that was taken in in time may reach its partition after its window."""
        self.node.parts[1].lose()
        command, entry = self.signed(self.locks[1].device)
        self.push(0, entry)
        self.node.pass_time(120)
        self.node.parts[1].reconnect()
        self.node.pass_time(8)
        self.assertEqual(self.client.state(command), "waiting")

    def test_sealed_by_nobody(self) -> None:
        """One that no gateway has taken in may not, whatever its entry says."""
        command, entry = self.signed(self.locks[1].device)
        self.node.pass_time(61)
        for seal in ({}, {"seal": ""}, {"seal": "00" * 32}):
            forged = {"forwarded_at": START, "id": command, "entry": entry, **seal}
            self.push(1, json.dumps(forged, separators=(",", ":")))
            self.node.pass_time(1)
        self.assertEqual(self.waiting(self.locks[1].device), 0)
        self.assertIn("it was signed", self.client.record(command)["reason"])

    def test_by_imei(self) -> None:
        """One that has waited under an IMEI for longer than its window is sent to the lock with it."""
        lock = self.locks[1]
        imei = imei_in(self.layout, 3)
        command, entry = self.signed(imei)
        self.push(2, entry)
        self.node.pass_time(120)
        self.assertEqual(self.client.state(command), "waiting")
        link = self.node.come(lock)
        item = bytes([jt709x.IMEI, len(imei)]) + imei.encode()
        self.node.feed(link, lock.location(item, at=START + self.node.clock.seconds()))
        self.node.pass_time(8)
        self.assertEqual(len(self.unlocks(link)), 1)


def imei_in(layout: Partitions, number: int) -> str:
    """Return an IMEI that belongs to a partition."""
    return next(
        str(one) for one in range(490154203237518, 490154203247518) if layout.number(str(one)) == number
    )
