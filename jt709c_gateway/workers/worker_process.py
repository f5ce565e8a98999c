"""One run of a worker's process: its arguments, log and status."""

import json
import os
import pickle
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

from attrs import frozen
from twisted.internet import defer
from twisted.internet.protocol import Factory
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.config.settings import Settings
from jt709c_gateway.transport.listeners import Inherited
from jt709c_gateway.util.child_process import ChildProcess
from jt709c_gateway.workers.ipc import Report, StatusClient

#: Descriptors of a worker: arguments, log, status socket, and from there on its listening sockets.
ARGUMENTS: Final = 0
LOG: Final = 1
STATUS: Final = 3
FIRST_SOCKET: Final = 4

#: Avoids the working directory in sys.path, which "python -m" would add.
COMMAND: Final = (sys.executable, "-P", "-m", "jt709c_gateway.workers.main")
_MAX_LINE: Final = 1 << 17


@frozen
class WorkerArguments:
    """The arguments of a worker, passed through a descriptor, not on the command line."""

    parent: int
    settings: Settings
    profiles: ProfileRegistry
    inherited: tuple[Inherited, ...]


class WorkerProcess(ChildProcess):
    """A running worker. Its log events go into our log, prefixed with its name."""

    def __init__(self, name: str, started: Callable[[], None]) -> None:
        super().__init__()
        self.status_client = StatusClient(started)
        #: The last line that it wrote to stderr, such as the reason why it could not start.
        self.last_stderr_line = ""
        #: Whether it has reported and handles signals.
        self.is_up = False
        self._name = name
        self._rests = {1: b"", 2: b""}

    def spawn(
        self,
        reactor: Any,
        settings: Settings,
        profiles: ProfileRegistry,
        sockets: Sequence[tuple[socket.socket, bool]],
    ) -> None:
        """Start the process with sockets and whether each expects PROXY headers; OSError if impossible."""
        inherited = tuple(
            Inherited(FIRST_SOCKET + index, int(one.family), int(one.type), proxied)
            for index, (one, proxied) in enumerate(sockets)
        )
        with ExitStack() as closing:
            arguments = os.memfd_create("worker")
            closing.callback(os.close, arguments)
            ours, theirs = socket.socketpair()
            closing.callback(ours.close)
            closing.callback(theirs.close)
            with open(arguments, "wb", closefd=False) as file:
                pickle.dump(WorkerArguments(os.getpid(), settings, profiles, inherited), file)
            os.lseek(arguments, 0, os.SEEK_SET)
            descriptors = {ARGUMENTS: arguments, 1: "r", 2: "r", STATUS: theirs.fileno()}
            descriptors |= {FIRST_SOCKET + index: one.fileno() for index, (one, _) in enumerate(sockets)}
            # The worker must import the same code.
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            # Calls that may fail come first: after a failure nothing would supervise a running process. If
            # the start fails, the status connection ends by itself, as its other end is closed below.
            ours.setblocking(False)
            reactor.adoptStreamConnection(
                ours.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: self.status_client)
            )
            reactor.spawnProcess(self, COMMAND[0], COMMAND, env=environment, childFDs=descriptors)

    async def ask(self, reactor: Any, timeout: float) -> Report | None:
        """Return the worker's report; None without one within `timeout` seconds."""
        try:
            return await self.status_client.ask().addTimeout(timeout, reactor)
        except defer.TimeoutError:
            return None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Process lines of the worker's log and of stderr."""
        *lines, rest = (self._rests[childFD] + data).split(b"\n")
        if len(rest) > _MAX_LINE:
            lines, rest = [*lines, rest], b""
        self._rests[childFD] = rest
        for line in lines:
            self._say(childFD, line)

    def processEnded(self, reason: Failure) -> None:
        """Handle the end of the process; its last line may lack a line end."""
        for descriptor, rest in self._rests.items():
            if rest:
                self._say(descriptor, rest)
        super().processEnded(reason)

    def _say(self, descriptor: int, line: bytes) -> None:
        level, namespace, text = LogLevel.error, "", line.decode(errors="replace")
        if descriptor == LOG:
            try:
                name, namespace, text = json.loads(line)
                level = LogLevel.lookupByName(name)
            except (ValueError, TypeError):
                # Not written through the log.
                pass
        elif text.strip():
            self.last_stderr_line = text.strip()
        Logger(namespace=f"{self._name} {namespace}".rstrip()).emit(level, "{text}", text=text)
