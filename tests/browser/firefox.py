"""Headless Firefox, driven over Marionette, the protocol that is built into it.

Playwright drives only a Firefox of its own. A message is its length, a colon, and JSON:
``[0, id, command, parameters]``, answered by ``[1, id, error, result]``.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import LOOPBACK, wait_until

_NAMES = ("firefox-esr", "firefox")
#: Port 0 is any free one; it is then in this file of the profile.
_PREFERENCES = {"marionette.port": 0, "ui.prefersReducedMotion": 1}
_PORT_FILE = "MarionetteActivePort"


def firefox() -> str | None:
    """The path of Firefox."""
    return next((path for path in map(shutil.which, _NAMES) if path), None)


class Firefox:
    """A Firefox with a new profile in `directory`, and one tab."""

    def __init__(self, directory: Path) -> None:
        program = firefox()
        assert program is not None
        directory.mkdir()
        (directory / "user.js").write_text(
            "".join(f"user_pref({json.dumps(name)}, {value});\n" for name, value in _PREFERENCES.items())
        )
        self._process = subprocess.Popen(
            # The last option allows to read its console.
            [
                *(program, "--headless", "--no-remote", "--profile", str(directory)),
                *("--marionette", "--remote-allow-system-access"),
            ],
            env={**os.environ, "HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = directory / _PORT_FILE
        wait_until(lambda: port.exists() and port.read_text().isdigit(), message="Firefox does not start")
        self._socket = socket.create_connection((LOOPBACK, int(port.read_text())), 60.0)
        self._file = self._socket.makefile("rb")
        self._last = 0
        self._read()
        self.call("WebDriver:NewSession", {})

    def _read(self) -> Any:
        digits = b""
        while (one := self._file.read(1)) != b":":
            assert one, "Firefox has ended"
            digits += one
        return json.loads(self._file.read(int(digits)))

    def call(self, command: str, parameters: Mapping[str, Any]) -> Any:
        """Send a command; its result."""
        self._last += 1
        text = json.dumps([0, self._last, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(text), text))
        _, number, error, result = self._read()
        assert (number, error) == (self._last, None), f"{command}: {error}"
        return result

    def go(self, address: str) -> None:
        """Open an address, and wait until it is loaded."""
        self.call("WebDriver:Navigate", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; what it returns."""
        return self.call("WebDriver:ExecuteScript", {"script": script, "args": arguments})["value"]

    def wait(self, expression: str, timeout: float = 60.0) -> Any:
        """Wait until an expression of the page is true; its value."""
        deadline = time.monotonic() + timeout
        while not (value := self.run(f"return {expression}")):
            shown = "" if time.monotonic() < deadline else self.run("return document.body.innerText")
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {expression}\n{shown}"
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        """Scroll to an element, and click it with the mouse."""
        self.call("WebDriver:ElementClick", {"id": self._find(selector)})

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        self.call("WebDriver:ElementSendKeys", {"id": self._find(selector), "text": text})

    def _find(self, selector: str) -> str:
        found = self.call("WebDriver:FindElement", {"using": "css selector", "value": selector})["value"]
        (reference,) = found.values()
        return str(reference)

    def complaints(self, address: str) -> list[str]:
        """Errors and warnings in the console that come from pages below an address."""
        self.call("Marionette:SetContext", {"value": "chrome"})
        try:
            messages = self.run(
                "return Services.console.getMessageArray().filter((one) => one instanceof Ci.nsIScriptError)"
                ".map((one) => [one.sourceName, one.errorMessage])"
            )
        finally:
            self.call("Marionette:SetContext", {"value": "content"})
        return [f"{source}: {text}" for source, text in messages if source.startswith(address)]

    def close(self) -> None:
        """End it."""
        try:
            self.call("Marionette:Quit", {"flags": ["eForceQuit"]})
            self._process.wait(30)
        finally:
            self._socket.close()
            self._process.kill()
            self._process.wait()
