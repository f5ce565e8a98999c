"""Runs the examples of documentation pages: an own profile, frames and answers."""

import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.protocol.framing import Framer, Malformed
from tests.support import ROOT, ValkeyServer, temporary_path, wait_until
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon

DOCS = ROOT / "docs"
EXAMPLE = DOCS / "examples" / "profiles" / "depot.toml"
_EXCHANGE = re.compile(r"^    > (\S+)\n    < (\S+)$", re.MULTILINE)


class ProfileTests(SynchronousTestCase):
    """docs/profiles.rst: the example, checked and used."""

    def setUp(self) -> None:
        self.page = (DOCS / "profiles.rst").read_text()

    def check(self, path: Path) -> str:
        command = [sys.executable, "-m", "jt709c_gateway.cli.main", "profiles", "check", str(path)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return (found.stdout + found.stderr).strip()

    def test_check(self) -> None:
        """`jt709c profiles check` prints what the page says, for the example and for a mistake."""
        self.assertIn(f"   {self.check(EXAMPLE)}\n", self.page)
        directory = Path(temporary_path(self))
        directory.mkdir()
        wrong = directory / "depot.toml"
        wrong.write_text(EXAMPLE.read_text().replace("{password}", "{pasword}"))
        self.assertIn(f"   {self.check(wrong)}\n".replace(f"{directory}/", ""), self.page)

    def test_bytes(self) -> None:
        """A lock of that firmware gets the bytes on the page, any other lock the old ones."""
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        daemon = Daemon("--profiles", str(EXAMPLE.parent), "--ask=jt709", redis=server.url).start()
        self.addCleanup(daemon.discard)
        client = CommandClient(server)
        self.addCleanup(client.close)
        for firmware, number, outcome in (
            ("JT709C_2.31_20251101", 2, {"state": "rejected", "reason": "rope under tension"}),
            ("JT709C_1.07", 1, {"state": "uncertain"}),
        ):
            self.assertIn(f"794308010679,1,004,ELOCK,{number},1,888888)", self.page)
            lock = FakeLock(new_device()).connect(daemon)
            self.addCleanup(lock.close)
            parts = lock.next_command()[1:-1].decode().split(",")
            self.assertEqual(parts[3:], ["BASE", "1"])
            lock.answer(int(parts[2]), "BASE", "1", firmware)
            wait_until(lambda: client.redis.call("HGET", f"jt709c:device:{lock.device}", "firmware"))  # noqa: B023
            command = client.unlock(lock.device, "888888")
            written = lock.next_command()[1:-1].decode().split(",")
            self.assertEqual([written[0], *written[3:]], [lock.device, "ELOCK", str(number), "1", "888888"])
            lock.answer(int(written[2]), "ELOCK", str(number), "2")
            record = client.wait(command, outcome["state"])
            self.assertEqual({name: record[name] for name in outcome}, outcome)
            self.assertEqual(record["assumed"], "false" if number == 2 else "true")
        seal = client.command(lock.device, "seal")
        client.wait(seal, "sent")


class ProtocolTests(SynchronousTestCase):
    """docs/protocol.rst: its example frames."""

    def test_examples(self) -> None:
        """Each frame is decoded, and answered with the bytes that stand below it."""
        examples = _EXCHANGE.findall((DOCS / "protocol.rst").read_text())
        self.assertEqual(len(examples), 4)
        for said, answer in examples:
            raw = said.encode() if said.startswith("(") else bytes.fromhex(said)
            (frame,) = Framer().feed(raw)
            message = Decoder().decode(frame, 0.0)
            assert message is not None and not isinstance(message, Malformed)
            expected = answer.encode() if answer.startswith("(") else bytes.fromhex(answer)
            self.assertEqual(message.answer, expected)


class ContractTests(SynchronousTestCase):
    """The lists of README and the Redis contract."""

    def test_kinds(self) -> None:
        """Both name every kind of event."""
        readme = (DOCS.parent / "README.rst").read_text()
        listed = readme.partition("Kinds of events:")[2].partition(".")[0]
        self.assertEqual(sorted(re.findall(r"``(\w+)``", listed)), sorted(KINDS))
        contract = (DOCS / "redis.rst").read_text()
        self.assertEqual([kind for kind in KINDS if f"``{kind}``" not in contract], [])

    def test_pages(self) -> None:
        """README names every page."""
        named = set(re.findall(r"``(?:docs/)?([\w-]+\.rst)``", (DOCS.parent / "README.rst").read_text()))
        self.assertEqual({page.name for page in DOCS.glob("*.rst")} - named, {"index.rst"})
