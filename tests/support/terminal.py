"""A terminal with an interactive shell."""

import contextlib
import errno
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.support import wait_until

_ROWS, _COLUMNS = 50, 200


class Terminal:
    """An interactive bash; it collects the output of all its commands."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._said = bytearray()
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            cwd=directory,
            env={**environment, "PS1": "$ ", "TERM": "dumb"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # The new session's terminal, without which there are no jobs.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 4096):
                self._said += data
        except OSError as error:
            # The last process has closed it.
            if error.errno != errno.EIO:
                raise

    def type(self, text: str) -> None:
        """Type or paste a text."""
        os.write(self._master, text.encode())

    def said(self) -> str:
        """Return the output so far, with the typed text."""
        return self._said.decode(errors="replace").replace("\r", "")

    def shows(self, text: str) -> None:
        """Wait until the output, with the typed text, contains this."""
        try:
            wait_until(lambda: text in self.said())
        except AssertionError:
            raise AssertionError(f"{text!r} is not in: {self.said()}") from None

    def close(self) -> None:
        """End the shell and its jobs."""
        with contextlib.suppress(OSError):
            self.type("\x03\nkill $(jobs -p); wait; exit\n")
        try:
            self._shell.wait(30)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait()
        self._reader.join(10)
        os.close(self._master)
