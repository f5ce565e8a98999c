"""README's first commands and the quick start, pasted into one terminal."""

import os
import re
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, ROOT, free_port, temporary_path, wait_until
from tests.support.docs_tools import missing, needed
from tests.support.terminal import Terminal

#: Where the programs of this environment are.
_PROGRAMS = Path(sys.executable).parent
#: The quick start's blocks; the first one installs and is run by .ci/run.
_BLOCK = re.compile(r"\.\. code-block:: sh\n(?:   :.*\n)*\n((?:   .*\n|\n(?=   ))+)")


class FirstStepsTests(SynchronousTestCase):
    """All commands but the installation, as they are, except for ports and where the programs are."""

    def setUp(self) -> None:
        if not all((_PROGRAMS / name).exists() for name in ("jt709c", "jt709c-gateway")):
            missing("the gateway installed beside this Python")
        self.directory = Path(temporary_path(self))
        self.directory.mkdir()
        environment = {name: text for name, text in os.environ.items() if not name.startswith("JT709C_")}
        path = f"{_PROGRAMS}{os.pathsep}{environment['PATH']}"
        self.terminal = Terminal(self.directory, {**environment, "PATH": path})
        self.addCleanup(self.terminal.close)
        self.locks, self.redis, self.http = (str(free_port()) for _ in range(3))
        self.listen = f"--listen tcp:{self.locks}:interface={LOOPBACK} --no-udp"

    def here(self, text: str, *changes: tuple[str, str]) -> str:
        """The commands with what differs in a test."""
        for shown, changed in changes:
            self.assertIn(shown, text)
            text = text.replace(shown, changed)
        return text

    def test_readme(self) -> None:
        """The demo starts in the background, a lock is opened, and nothing is left of the demo."""
        page = (ROOT / "README.rst").read_text()
        commands = re.findall(
            r"^    (.*\n)", page.partition("\nTry it\n")[2].partition("\nThe command is")[0], re.M
        )
        self.assertIn("pip install", commands[0])
        http = f"--http tcp:{self.http}:interface={LOOPBACK}"
        pasted = self.here(
            "".join(commands[1:]), ("--demo", f"--demo {self.listen} {http}"), ("venv/bin/", "")
        )
        self.terminal.type(pasted)
        self.terminal.shows("password (empty: ")
        self.terminal.type("888888\n")
        self.terminal.shows("confirmed")
        self.terminal.shows(f"The page:    http://{LOOPBACK}:{self.http}/")
        self.assertTrue((self.directory / "jt709c-demo").exists())
        self.assertIn("``kill %1`` ends everything", page)
        self.terminal.type("kill %1; wait; echo all' 'over\n")
        self.terminal.shows("all over")
        self.assertFalse((self.directory / "jt709c-demo").exists())
        self.assertNotIn("Traceback", self.terminal.said())

    def test_quick_start(self) -> None:
        """The whole page at once: a gateway is ready, hears locks, opens one, tells of it, and stops."""
        needed("curl")
        page = (ROOT / "docs" / "quickstart.rst").read_text()
        install, *blocks = (re.sub("^   ", "", block, flags=re.M) for block in _BLOCK.findall(page))
        self.assertIn("pip install", install)
        self.assertEqual(len(blocks), page.count("code-block:: sh") - 1)
        pasted = self.here(
            "".join(blocks),
            ("6399", self.redis),
            ("tcp:8089:interface=127.0.0.1", f"tcp:8089:interface={LOOPBACK} {self.listen}"),
            ("8089", self.http),
            ("simulate", f"simulate --tcp {LOOPBACK}:{self.locks}"),
        )
        self.terminal.type(f"{pasted}echo all' 'over\n")
        wait_until(lambda: "all over" in self.terminal.said(), timeout=120.0)
        said = self.terminal.said()
        for expected in ('"ready": true', "confirmed", "asked for by", "(P69,0,5)"):
            self.assertIn(expected, said)
        self.assertEqual(len(re.findall(r"[0-9a-f]{32}  queued", said)), 1, said)
        for state in ("sent", "acknowledged", "confirmed"):
            # The watching in the background does not show it too.
            self.assertEqual(len(re.findall(rf"Z  {state}  .*\(assumed form\)\n", said)), 1, said)
        for log in ("gateway.log", "locks.log"):
            self.assertNotIn("Traceback", (self.directory / log).read_text())
        self.assertIn("unlocked", said)
        self.assertNotIn("Traceback", said)
