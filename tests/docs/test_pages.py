"""What pages of the documentation show, done: quick start, a profile of one's own, frames and answers."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.protocol.framing import Framer, Malformed
from tests.support import LOOPBACK, ROOT, ValkeyServer, free_port, temporary_path, wait_until
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.docs_tools import missing, needed

DOCS = ROOT / "docs"
EXAMPLE = DOCS / "examples" / "profiles" / "depot.toml"
#: A block of the quick start: its terminal, and its commands.
_BLOCK = re.compile(r"\.\. code-block:: sh\n   :caption: (.*)\n\n((?:   .*\n|\n(?=   ))+)")
_EXCHANGE = re.compile(r"^    > (\S+)\n    < (\S+)$", re.MULTILINE)
#: Where `jt709c` and `twistd` of this environment are.
_PROGRAMS = Path(sys.executable).parent


class Terminal:
    """A shell, to which blocks of commands are typed; what they say is in a file."""

    def __init__(self, directory: Path, name: str) -> None:
        self._log = directory / f"{name}.log"
        with self._log.open("wb") as log:
            self._shell = subprocess.Popen(
                ["bash"],
                cwd=directory,
                env={**os.environ, "PATH": f"{_PROGRAMS}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def type(self, commands: str) -> None:
        """Have commands run, one after the other."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(commands.encode())
        self._shell.stdin.flush()

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def shows(self, text: str) -> None:
        """Wait until something is said."""
        try:
            wait_until(lambda: text in self.said())
        except AssertionError:
            raise AssertionError(f"{text!r} is not in: {self.said()}") from None

    def close(self) -> None:
        """End all that runs in it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._shell.pid, number)
                self._shell.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


class QuickStartTests(SynchronousTestCase):
    """docs/quickstart.rst, command by command, but for the ports. Its first block is run by .ci/run."""

    def setUp(self) -> None:
        needed("curl")
        if not all((_PROGRAMS / name).exists() for name in ("jt709c", "twistd")):
            missing("the gateway installed beside this Python")
        self.blocks = _BLOCK.findall((DOCS / "quickstart.rst").read_text())
        self.directory = Path(temporary_path(self))
        self.directory.mkdir()
        self.terminals: dict[str, Terminal] = {}

    def type(self, terminal: str, block: str, *changes: tuple[str, str]) -> Terminal:
        for shown, here in changes:
            self.assertIn(shown, block)
            block = block.replace(shown, here)
        if terminal not in self.terminals:
            self.terminals[terminal] = Terminal(self.directory, terminal)
            self.addCleanup(self.terminals[terminal].close)
        self.terminals[terminal].type(block)
        return self.terminals[terminal]

    def test_quick_start(self) -> None:
        """A gateway is started, is ready, hears locks, opens one, and shows what happened."""
        locks, redis, http = (str(free_port()) for _ in range(3))
        self.assertEqual(
            [terminal for terminal, _ in self.blocks],
            ["Install", *(f"Terminal {number}" for number in (1, 2, 2, 3, 3, 3))],
        )
        _, gateway, ready, simulate, send, history, explain = (
            (terminal, re.sub("^   ", "", block, flags=re.MULTILINE)) for terminal, block in self.blocks
        )
        here = f"tcp:{http}:interface={LOOPBACK} --listen tcp:{locks}:interface={LOOPBACK} --no-udp"
        first = self.type(*gateway, ("6399", redis), ("tcp:8089:interface=127.0.0.1", here))
        first.shows("connected to Redis")
        self.type(*ready, ("8089", http)).shows('"ready": true')
        self.type(*simulate, ("simulate", f"simulate --tcp {LOOPBACK}:{locks}"))
        self.type(*send).shows("confirmed")
        self.type(*history).shows("asked for by")
        self.type(*explain).shows("(P69,0,5)")
        self.assertNotIn("Traceback", first.said())


class ProfileTests(SynchronousTestCase):
    """docs/profiles.rst: the example, checked and used."""

    def setUp(self) -> None:
        self.page = (DOCS / "profiles.rst").read_text()

    def check(self, path: Path) -> str:
        command = [sys.executable, "-m", "jt709c_gateway.cli.main", "profiles", "check", str(path)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return (found.stdout + found.stderr).strip()

    def test_check(self) -> None:
        """`jt709c profiles check` says of it what the page says, and of a mistake too."""
        self.assertIn(f"   {self.check(EXAMPLE)}\n", self.page)
        directory = Path(temporary_path(self))
        directory.mkdir()
        wrong = directory / "depot.toml"
        wrong.write_text(EXAMPLE.read_text().replace("{password}", "{pasword}"))
        self.assertIn(f"   {self.check(wrong)}\n".replace(f"{directory}/", ""), self.page)

    def test_bytes(self) -> None:
        """A lock of that firmware is written what the page says, any other what it was before."""
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
    """docs/protocol.rst: the frames it shows."""

    def test_examples(self) -> None:
        """Each is read, and answered with the bytes that stand below it."""
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
    """What README and the Redis contract list."""

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
