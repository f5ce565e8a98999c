"""Commands over UDP: they go out right after a datagram, to where it came from."""

import socket

from tests.support.commands import UNLOCKED, CommandCase, lock_event


class DatagramCase(CommandCase):
    """A lock behind a mobile network's NAT, heard now and then."""

    options: tuple[str, ...] = ("--udp-window", "0.5")
    transport = "udp"
    #: Whether it answers when it is asked for its firmware.
    answers = True

    def setUp(self) -> None:
        super().setUp()
        self.socket = self.address()

    def address(self) -> socket.socket:
        """A new address that datagrams may come from."""
        found = self.daemon.datagrams()
        self.addCleanup(found.close)
        return found

    def report(self, items: bytes = b"", status: int | None = None) -> list[bytes]:
        """Send a report; what comes back up to its answer, without that."""
        self.socket.send(self.lock.location(items) if status is None else self.lock.location(items, status))
        before = []
        while not (data := self.next()).startswith(b"\x7e\x80\x01"):
            before.append(data)
        return before

    def next(self, socket: socket.socket | None = None) -> bytes:
        """What the gateway sends next, apart from its question whether the lock is there."""
        place = socket or self.socket
        while b",BASE,1)" in (data := place.recv(2000)):
            if self.answers:
                place.send(data.replace(b",BASE,1)", b",BASE,1,V2)"))
        return data

    def states(self, command: str) -> list[str]:
        """The states of a command; how often it had to wait is no matter."""
        found = self.client.states(command)
        return [state for at, state in enumerate(found) if not at or state != found[at - 1]]

    def play(self, command: str, raw: bytes) -> None:
        """Answer an unlock command and move."""
        serial = int(raw.split(b",")[2])
        self.socket.send(f"({self.device},1,{serial:03d},ELOCK,1,1)".encode())
        self.report(lock_event(), UNLOCKED)
        self.client.wait(command, "confirmed")


class DatagramTests(DatagramCase):
    """Commands go out right after a datagram."""

    def test_at_once(self) -> None:
        """Within the window a command goes to the address that was heard last."""
        self.report()
        command = self.client.unlock(self.device)
        self.play(command, self.next())

    def test_waits_for_datagram(self) -> None:
        """Outside the window a command waits, and goes out right after the next datagram."""
        self.report()
        # The window is half a second.
        self.client.redis.call("BLPOP", "nothing", "0.6")
        command = self.client.unlock(self.device)
        self.client.wait(command, "waiting")
        self.socket = self.address()
        early = self.report()
        self.play(command, early[0] if early else self.next())
        self.assertEqual(self.states(command)[:3], ["queued", "waiting", "sent"])

    def test_waits_for_lock(self) -> None:
        """A command for a lock that was never heard goes out after its first datagram."""
        command = self.client.unlock(self.device)
        self.client.wait(command, "waiting")
        early = self.report()
        self.play(command, early[0] if early else self.next())

    def test_answer_from_new_address(self) -> None:
        """A lock that answers from another address has not moved: its command goes on."""
        self.report()
        command = self.client.unlock(self.device)
        raw = self.next()
        self.client.wait(command, "sent")
        self.socket = self.address()
        self.play(command, raw)
        self.assertEqual(self.states(command)[-3:], ["sent", "acknowledged", "confirmed"])

    def test_not_repeated_outside_window(self) -> None:
        """What is to be repeated waits as well: for the next datagram."""
        self.report()
        command = self.client.command(self.device, "text", {"text": "hello"}, timeout=1)
        first = self.socket.recv(2000)
        self.client.wait(command, "waiting")
        early = self.report()
        second = early[0] if early else self.next()
        self.assertNotEqual(first, second)
        serial = second[11:13]
        self.socket.send(self.lock.frame(0x0001, serial + b"\x83\x00\x00"))
        self.client.wait(command, "done")


class ProofTests(DatagramCase):
    """What opens a lock isn't written to an address from which nothing was heard but datagrams."""

    options = ("--udp-window", "30")

    def test_unanswered(self) -> None:
        """An unlock waits while nobody answers; the question is no command, and nothing else shows."""
        self.answers = False
        self.report()
        command = self.client.unlock(self.device, ttl=3)
        self.assertIn(b",BASE,1)", self.socket.recv(2000))
        self.client.wait(command, "waiting")
        for _ in range(5):
            self.assertEqual(self.report(), [])
        self.client.wait(command, "expired")
        self.assertEqual(self.client.record(command).get("sent_at", ""), "")

    def test_answered_once(self) -> None:
        """A lock that has answered is asked no more while it stays where it is."""
        self.report()
        first = self.client.unlock(self.device)
        self.play(first, self.next())
        self.answers = False
        second = self.client.unlock(self.device)
        self.assertIn(b"ELOCK", raw := self.socket.recv(2000))
        self.play(second, raw)

    def test_another_serial(self) -> None:
        """An answer under another serial than the question's proves nothing."""
        self.answers = False
        self.report()
        command = self.client.unlock(self.device, ttl=3)
        asked = self.socket.recv(2000)
        serial = int(asked.split(b",")[2])
        for wrong in (serial + 1, serial + 500):
            self.socket.send(f"({self.device},1,{wrong % 1000:03d},BASE,1,V2)".encode())
        self.client.wait(command, "expired")

    def test_harmless(self) -> None:
        """What neither opens nor shows a password goes out as before, and its answer is a proof."""
        self.answers = False
        self.report()
        self.client.command(self.device, "text", {"text": "hello"})
        serial = self.socket.recv(2000)[11:13]
        self.socket.send(self.lock.frame(0x0001, serial + b"\x83\x00\x00"))
        command = self.client.unlock(self.device)
        raw = self.next()
        while b"ELOCK" not in raw:
            raw = self.next()
        self.play(command, raw)

    def test_passwords(self) -> None:
        """What shows a password waits as well, though it opens nothing."""
        self.answers = False
        self.report()
        command = self.client.command(self.device, "set_password", {"old": "111111", "new": "222222"}, ttl=2)
        self.assertIn(b",BASE,1)", self.socket.recv(2000))
        self.client.wait(command, "expired", "invalid")
        self.assertEqual(self.client.record(command)["state"], "expired")


class AnyAddressTests(DatagramCase):
    """--udp-commands any: as the lock was heard."""

    options = ("--udp-commands", "any")
    answers = False

    def test_at_once(self) -> None:
        """It isn't asked."""
        self.report()
        command = self.client.unlock(self.device)
        self.assertIn(b"ELOCK", raw := self.socket.recv(2000))
        self.play(command, raw)


class OverTcpOnlyTests(DatagramCase):
    """--udp-commands tcp: nothing that opens goes over UDP, whatever the lock answers."""

    options = ("--udp-commands", "tcp")

    def test_waits(self) -> None:
        """Neither the command nor a question goes out."""
        self.report()
        command = self.client.unlock(self.device, ttl=2)
        self.client.wait(command, "waiting")
        self.assertEqual(self.report(), [])
        self.client.wait(command, "expired")
