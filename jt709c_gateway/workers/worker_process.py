"""One run of a worker's process: what it is given, and what it says."""

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

#: Descriptors of a worker: what it is given, its log, its channel, and from there on its sockets.
GIVEN: Final = 0
LOG: Final = 1
CHANNEL: Final = 3
FIRST_SOCKET: Final = 4

#: Without what "python -m" would put in front of the path: the directory it is started in.
COMMAND: Final = (sys.executable, "-P", "-m", "jt709c_gateway.workers.main")
_MAX_LINE: Final = 1 << 17


@frozen
class WorkerArguments:
    """All that makes a worker. It goes through a descriptor: nothing of it is on a command line."""

    parent: int
    settings: Settings
    profiles: ProfileRegistry
    inherited: tuple[Inherited, ...]


class WorkerProcess(ChildProcess):
    """A running worker. What it logs goes into our log, with its name in front."""

    def __init__(self, name: str, started: Callable[[], None]) -> None:
        super().__init__()
        self.questions = StatusClient(started)
        #: The last line that it wrote past its log: why it could not start.
        self.last_stderr_line = ""
        #: It has reported, and hears signals.
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
        """Start it on sockets, and whether a PROXY header comes first on each; OSError when not possible."""
        inherited = tuple(
            Inherited(FIRST_SOCKET + index, int(one.family), int(one.type), proxied)
            for index, (one, proxied) in enumerate(sockets)
        )
        with ExitStack() as closing:
            given = os.memfd_create("worker")
            closing.callback(os.close, given)
            ours, theirs = socket.socketpair()
            closing.callback(ours.close)
            closing.callback(theirs.close)
            with open(given, "wb", closefd=False) as file:
                pickle.dump(WorkerArguments(os.getpid(), settings, profiles, inherited), file)
            os.lseek(given, 0, os.SEEK_SET)
            descriptors = {GIVEN: given, 1: "r", 2: "r", CHANNEL: theirs.fileno()}
            descriptors |= {FIRST_SOCKET + index: one.fileno() for index, (one, _) in enumerate(sockets)}
            # It has to find the same code, wherever that is.
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            # What may fail comes first: nobody would look after a process that runs already. Without one the
            # channel ends by itself, as its other end is closed below.
            ours.setblocking(False)
            reactor.adoptStreamConnection(
                ours.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: self.questions)
            )
            reactor.spawnProcess(self, COMMAND[0], COMMAND, env=environment, childFDs=descriptors)

    async def ask(self, reactor: Any, timeout: float) -> Report | None:
        """Its report; None when there is none within `timeout` seconds."""
        try:
            return await self.questions.ask().addTimeout(timeout, reactor)
        except defer.TimeoutError:
            return None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Lines of its log, and what Python itself has to say."""
        *lines, rest = (self._rests[childFD] + data).split(b"\n")
        if len(rest) > _MAX_LINE:
            lines, rest = [*lines, rest], b""
        self._rests[childFD] = rest
        for line in lines:
            self._say(childFD, line)

    def processEnded(self, reason: Failure) -> None:
        """It has ended; what it said last may lack its line end."""
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
                # Something wrote past the log.
                pass
        elif text.strip():
            self.last_stderr_line = text.strip()
        Logger(namespace=f"{self._name} {namespace}".rstrip()).emit(level, "{text}", text=text)
