"""`jt709c_gateway.client` against streams that are trimmed, and with a real gateway and virtual locks."""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.client import AsyncClient, Client, CommandState, Gap, OutcomePending, SigningKey
from jt709c_gateway.client.messages import encode_command, new_command, outcome_from_record, read_event
from jt709c_gateway.commands.model import parse_command
from tests.support import LOOPBACK, ValkeyServer, shared_server, wait_until
from tests.support.daemon import Daemon

_SECRET = "00112233445566778899aabbccddeeff"
_prefixes = itertools.count(1)


def event(number: int, kind: str = "heartbeat") -> str:
    """An event as the gateway writes it, with a field that this client doesn't know."""
    fields = {"v": 1, "id": f"e{number}", "kind": kind, "device": "1", "gateway": "gw1", "data": {}}
    return json.dumps({**fields, "received_at": "2026-12-01T00:00:00.000000Z", "new_field": [1]})


class BlockingTests(SynchronousTestCase):
    """`Client.events`."""

    def setUp(self) -> None:
        self.server = shared_server()
        self.prefix = f"client{next(_prefixes)}"
        self.stream = f"{self.prefix}:events"
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.gaps: list[int] = []

    def add(self, *numbers: int, kind: str = "heartbeat") -> None:
        for number in numbers:
            self.redis.call("XADD", self.stream, "*", "kind", kind, "event", event(number, kind))

    def pending(self) -> int:
        return int(self.redis.call("XPENDING", self.stream, "g")[0])

    def told(self, gap: Gap) -> None:
        self.gaps.append(gap.count)

    def take(self, most: int | None = None, **options: Any) -> list[str]:
        """The events of a consumer, each processed; the loop ends while number `most` is processed."""
        options = {"follow": False, "on_gap": self.told, **options}
        found: list[str] = []
        with Client(self.server.url, prefix=self.prefix, client_name=self.prefix) as client:
            for one in client.events.consume("g", "c", **options):
                found.append(one.id)
                if len(found) == most:
                    break
        return found

    def test_each_comes_once_if_all_goes_well(self) -> None:
        self.add(*range(5))
        self.assertEqual(self.take(), [f"e{number}" for number in range(5)])
        self.assertEqual(self.pending(), 0)
        self.assertEqual(self.take(), [])

    def test_one_that_was_not_finished_comes_again(self) -> None:
        self.add(*range(5))
        self.assertEqual(self.take(3), ["e0", "e1", "e2"])
        self.assertEqual(self.take(), ["e2", "e3", "e4"])

    def test_a_gap_is_told_once_with_its_number(self) -> None:
        self.add(*range(4))
        self.take()
        self.add(*range(4, 20))
        self.redis.call("XTRIM", self.stream, "MAXLEN", 6)
        self.assertEqual(self.take(), [f"e{number}" for number in range(14, 20)])
        self.add(20)
        self.assertEqual(self.take(), ["e20"])
        self.assertEqual(self.gaps, [10])

    def test_trimming_what_was_read_is_no_gap(self) -> None:
        self.add(*range(6))
        self.take()
        self.redis.call("XTRIM", self.stream, "MAXLEN", 0)
        self.add(6)
        self.assertEqual(self.take(), ["e6"])
        self.assertEqual(self.gaps, [])

    def test_unacknowledged_and_trimmed_is_a_gap(self) -> None:
        self.add(*range(4))
        self.take(1)
        self.redis.call("XTRIM", self.stream, "MAXLEN", 1)
        self.assertEqual(self.take(), ["e3"])
        self.assertEqual(self.gaps, [3])

    def test_kinds(self) -> None:
        self.add(1, 2)
        self.add(3, kind="lock")
        self.assertEqual(self.take(kinds=("lock",)), ["e3"])
        self.assertEqual(self.pending(), 0)

    def test_what_another_consumer_left_is_taken_over(self) -> None:
        self.add(1, 2)
        self.redis.call("XGROUP", "CREATE", self.stream, "g", "0")
        self.redis.call("XREADGROUP", "GROUP", "g", "dead", "COUNT", 1, "STREAMS", self.stream, ">")
        # The first batch passes without it, and the next look finds it.
        threading.Timer(0.5, self.add, [3]).start()
        found = self.take(3, follow=True, claim_after=0.2)
        self.assertEqual(sorted(found), ["e1", "e2", "e3"])

    def test_goes_on_when_the_connection_breaks(self) -> None:
        self.add(1)
        threading.Timer(0.3, self.break_connections).start()
        threading.Timer(0.6, self.add_over_another, [2]).start()
        self.assertEqual(self.take(2, follow=True), ["e1", "e2"])

    def add_over_another(self, number: int) -> None:
        with self.server.client() as client:
            client.call("XADD", self.stream, "*", "kind", "heartbeat", "event", event(number))

    def break_connections(self) -> None:
        with self.server.client() as client:
            for line in client.call("CLIENT", "LIST").decode().splitlines():
                if f"name={self.prefix} " in line:
                    client.call("CLIENT", "KILL", "ID", line.split()[0].partition("=")[2])


class AsyncTests(BlockingTests):
    """The same with `AsyncClient.events`."""

    def take(self, most: int | None = None, **options: Any) -> list[str]:
        return asyncio.run(self._take(most, {"follow": False, "on_gap": self.told, **options}))

    async def _take(self, most: int | None, options: dict[str, Any]) -> list[str]:
        found: list[str] = []
        async with (
            AsyncClient(self.server.url, prefix=self.prefix, client_name=self.prefix) as client,
            aclosing(client.events.consume("g", "c", **options)) as events,
        ):
            async for one in events:
                found.append(one.id)
                if len(found) == most:
                    break
        return found


class MessageTests(SynchronousTestCase):
    """What goes through Redis."""

    def test_an_event_that_is_none_is_an_error(self) -> None:
        self.assertRaises(msgspec.ValidationError, read_event, b'{"id": 1}')
        self.assertEqual(read_event(event(1)).id, "e1")

    def command(self, key: SigningKey | None) -> bytes:
        _, fields = new_command(
            *("794308010679", "unlock", {"password": "888888"}),
            command_id="c1",
            ttl=60,
            timeout=30,
            issued_by="test",
        )
        return encode_command(fields, key, 1764000000.0)

    def test_the_gateway_reads_a_command(self) -> None:
        for key in (None, SigningKey("k1", bytes.fromhex(_SECRET))):
            read = parse_command(self.command(key), 1764000001.0)
            self.assertEqual((read.id, read.device, read.name), ("c1", "794308010679", "unlock"))
            self.assertEqual((read.ttl, read.timeout, read.reply_to, read.issued_by), (60, 30, "c1", "test"))
            if key is not None:
                assert read.signature is not None
                self.assertTrue(read.signature.matches(key.secret))
                self.assertNotIn(_SECRET.encode(), self.command(key))

    def test_conditions(self) -> None:
        """They go along; one that no gateway would take is refused before it is pushed."""
        given = {"only_within": {"area": "depot"}, "max_speed_kmh": 5, "position_max_age": 60}
        usual = {"command_id": "c1", "ttl": 60.0, "timeout": 30.0, "issued_by": None}
        _, fields = new_command("794308010679", "unlock", None, **usual, conditions=given)
        read = parse_command(encode_command(fields, None, 0.0), 1764000001.0).conditions
        assert read is not None
        self.assertEqual((read.area, read.max_speed_kmh, read.position_max_age), ("depot", 5.0, 60.0))
        for wrong in ({"only_withn": {"area": "depot"}}, {"max_speed_kmh": None}, {"max_speed_kmh": -1}):
            with self.assertRaises(ValueError):
                new_command("794308010679", "unlock", None, **usual, conditions=wrong)

    def test_outcomes(self) -> None:
        self.assertIsNone(outcome_from_record({}))
        self.assertIsNone(outcome_from_record({"id": "c1", "state": "acknowledged"}))
        for state, succeeded, is_unknown in (
            ("confirmed", True, False),
            ("done", True, False),
            ("rejected", False, False),
            ("uncertain", False, True),
            ("unconfirmed", False, True),
        ):
            found = outcome_from_record({"id": "c1", "state": state, "reason": ""})
            assert found is not None
            self.assertEqual((found.succeeded, found.is_unknown, found.reason), (succeeded, is_unknown, None))

    def test_needs_nothing_of_the_gateways_network(self) -> None:
        said = subprocess.run(
            [
                *(sys.executable, "-c"),
                "import sys, jt709c_gateway.client as c; print({'twisted', 'txredisapi'} & set(sys.modules))",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(said.stdout, "set()\n")


class CommandTests(SynchronousTestCase):
    """Signed commands to a real gateway that takes no others."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = ValkeyServer().start()
        cls.addClassCleanup(cls.server.discard)
        directory = tempfile.mkdtemp(prefix="jt709c-test-")
        cls.addClassCleanup(shutil.rmtree, directory)
        keys = f"{directory}/keys.toml"
        Path(keys).write_text(f'k1 = "{_SECRET}"\n')
        os.chmod(keys, 0o600)
        cls.daemon = Daemon("--command-keys", keys, redis=cls.server.url).start()
        cls.addClassCleanup(cls.daemon.discard)
        cls.fleet = subprocess.Popen(
            [
                *(sys.executable, "-m", "jt709c_gateway.cli.main", "simulate", "--locks=2", "--card-every=0"),
                *("--tcp", f"{LOOPBACK}:{cls.daemon.tcp_port}"),
            ],
            stdout=subprocess.DEVNULL,
        )
        cls.addClassCleanup(cls.fleet.wait)
        cls.addClassCleanup(cls.fleet.kill)
        with cls.server.client() as client:
            wait_until(lambda: client.call("EXISTS", "jt709c:session:794308010002"))

    key = SigningKey("k1", bytes.fromhex(_SECRET))

    def test_blocking(self) -> None:
        with Client(self.server.url, key=self.key) as client:
            sent = client.commands.send("794308010001", "unlock", {"password": "888888"}, issued_by="test")
            outcome = client.commands.wait(sent)
            self.assertEqual((outcome.state, outcome.succeeded), (CommandState.CONFIRMED, True))
            # The same id again changes nothing, and the outcome can be asked for by the id alone.
            client.commands.send("794308010001", "unlock", {"password": "888888"}, command_id=sent.id)
            self.assertEqual(client.commands.wait(sent.id).state, CommandState.CONFIRMED)
            events = client.events.consume("g", kinds=("command",), follow=False)
            states = [one.data["state"] for one in events if one.data["id"] == sent.id]
            self.assertEqual(states[:4], ["queued", "sent", "acknowledged", "confirmed"])
            self.assertEqual(states.count("sent"), 1)

    def test_asyncio(self) -> None:
        async def unlock() -> Any:
            async with AsyncClient(self.server.url, key=self.key) as client:
                sent = await client.commands.send("794308010002", "unlock", {"password": "000000"})
                return await client.commands.wait(sent)

        outcome = asyncio.run(unlock())
        self.assertEqual((outcome.state, outcome.succeeded), (CommandState.REJECTED, False))

    def test_unsigned(self) -> None:
        with Client(self.server.url) as client:
            outcome = client.commands.wait(client.commands.send("794308010001", "locate"))
            self.assertEqual(outcome.state, CommandState.INVALID)
            self.assertIn("signed commands only", outcome.reason or "")

    def test_a_lock_that_is_away(self) -> None:
        with Client(self.server.url, key=self.key) as client:
            sent = client.commands.send("794308019999", "locate", ttl=60)
            with self.assertRaises(OutcomePending) as caught:
                client.commands.wait(sent, timeout=1)
            self.assertEqual(caught.exception.state, "waiting")
        with Client(f"redis://{LOOPBACK}:{self.server.port}/5", key=self.key) as elsewhere:
            with self.assertRaises(OutcomePending) as caught:
                elsewhere.commands.wait(elsewhere.commands.send("1", "locate"), timeout=0.2)
            self.assertIn("not taken in by any gateway", str(caught.exception))
