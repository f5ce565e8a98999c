"""``jt709c-gateway --demo``: a gateway on loopback with its own Redis, the status page and virtual locks."""

import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import bcrypt
from attrs import field, frozen
from twisted.application.service import IService, MultiService
from twisted.internet import defer, task

from jt709c_gateway.config.settings import Settings
from jt709c_gateway.protocol.dialects import JT709
from jt709c_gateway.simulator.client import Fleet, device_ids
from jt709c_gateway.simulator.connections import Target
from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import FACTORY_PASSWORD, FIRST_IDS, LockOptions
from jt709c_gateway.startup import StartError

LOCKS: Final = 3
USER: Final = "demo"
#: The data directory, removed at the end, unless `--data-dir` names another.
DIRECTORY: Final = Path("jt709c-demo")
#: By this file a directory is known as one that a demo made.
_MARK: Final = "made-by-demo"
_LOOPBACK: Final = "127.0.0.1"
_LOCK_PORT, _PAGE_PORT = 8888, 8089
#: Any host's limit of open files allows these.
_MOST_CONNECTIONS: Final = 500
#: Seconds between reports of a lock, and reports between two openings by card.
_INTERVAL: Final = 5.0
_CARD_EVERY: Final = 12
_LOOK_EVERY: Final = 0.1
#: In the path of programs that uvx runs once, and puts into the PATH of these alone.
_RUN_ONCE: Final = "archive-v0"
_TCP: Final = re.compile(r"tcp:(?:port=)?(\d+)(?::.*?interface=([0-9.]+))?(?::.*)?")


@frozen
class DemoPlan:
    """The options of a demo and the notes for its user."""

    #: Texts by option name; None for a flag.
    options: Mapping[str, str | None]
    #: The password of the page's user; None when the command line names other users.
    password: str | None = field(repr=False)
    #: The directory to remove at the end.
    temporary: Path | None

    def discard(self) -> None:
        """Remove the data of the demo."""
        if self.temporary is not None and (self.temporary / _MARK).exists():
            shutil.rmtree(self.temporary, ignore_errors=True)


def plan_demo(given: Mapping[str, Any]) -> DemoPlan:
    """Choose what the command line, whose values are `given`, leaves open; StartError if that can't be.

    A port that is in use is replaced by a free one. The users of the page get a file with one user and a new
    password.
    """
    options: dict[str, str | None] = {"redis": "embedded"}
    lock_port, page_port = _free(_LOCK_PORT), _free(_PAGE_PORT)
    options["listen"] = f"tcp:{lock_port}:interface={_LOOPBACK}"
    options["udp"] = f"{lock_port}:interface={_LOOPBACK}"
    options["http"] = f"tcp:{page_port}:interface={_LOOPBACK}"
    options["gateway"] = "demo"
    options["max-connections"] = str(_MOST_CONNECTIONS)
    directory = given.get("data_dir")
    temporary = None if directory else DIRECTORY
    directory = Path(directory or DIRECTORY)
    try:
        _make(directory, marked=temporary is not None)
        options["data-dir"] = str(directory)
        password = None
        if "web_users" not in given:
            password = secrets.token_urlsafe(9)
            options["web-users"] = str(_write_users(directory, password))
            options["web-commands"] = None
    except OSError as error:
        raise StartError(f"--demo: cannot write in {directory.absolute()}: {error.strerror}") from None
    return DemoPlan(options, password, temporary)


def _make(directory: Path, *, marked: bool) -> None:
    if marked and directory.exists() and not (directory / _MARK).exists():
        raise StartError(
            f"--demo: {directory.absolute()} exists and is not from a demo; start in another directory, "
            "or give --data-dir"
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if marked:
        (directory / _MARK).touch()


def _write_users(directory: Path, password: str) -> Path:
    path = directory / "page-users"
    path.write_text(f"{USER}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()}\n")
    path.chmod(0o600)
    return path


def _free(wanted: int) -> int:
    """The wanted port if nothing listens there, over TCP or UDP, else any free one."""
    for number in (wanted, 0):
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                stream.bind((_LOOPBACK, number))
                stream.listen()
                chosen = int(stream.getsockname()[1])
                datagrams.bind((_LOOPBACK, chosen))
            except OSError:
                continue
            return chosen
    return wanted


def _address(description: str, option: str) -> tuple[str, int]:
    """Host and port of an endpoint; StartError when the demo can't use it."""
    found = _TCP.fullmatch(description)
    if found is None or found[1] == "0":
        raise StartError(f"--{option} {description!r}: --demo expects tcp:PORT:interface={_LOOPBACK}")
    host = found[2] or _LOOPBACK
    return _LOOPBACK if host == "0.0.0.0" else host, int(found[1])


def _command_line() -> str:
    """How to call `jt709c` of this installation: by its name, or by its path if it is not in PATH."""
    beside = Path(sys.argv[0]).with_name("jt709c")
    if _RUN_ONCE in beside.parts:
        return str(beside.absolute())
    named = shutil.which("jt709c")
    if named is not None and (not beside.exists() or Path(named).samefile(beside)):
        return "jt709c"
    return str(beside) if beside.exists() else "jt709c"


class DemoService(MultiService):
    """The gateway, and locks that connect to it; tells how to use them when a first report is answered."""

    def __init__(
        self, reactor: Any, gateway: IService, settings: Settings, plan: DemoPlan, out: TextIO
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if settings.no_tcp or not settings.http:
            raise StartError("--demo: expected without --no-tcp, and with --http")
        self._reactor = reactor
        self._settings = settings
        self._plan = plan
        self._out = out
        host, port = _address(settings.listen[0], "listen")
        udp = not settings.no_udp and any(one.port == port for one in settings.udp)
        self._lock_port = f"{host}:{port}, TCP{' and UDP' if udp else ''}"
        self._url = "http://{}:{}/".format(*_address(settings.http, "http"))
        counters = Counters()
        options = LockOptions(interval=_INTERVAL, card_every=_CARD_EVERY)
        locks = [VirtualLock(one, options, counters) for one in device_ids(FIRST_IDS[JT709], LOCKS)]
        self._fleet = Fleet(reactor, locks, Target("tcp", host, port))
        self._looking = task.LoopingCall(self._look)
        self._looking.clock = reactor
        self.addService(gateway)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Start the gateway and the locks."""
        super().startService()  # type: ignore[no-untyped-call]
        # A gateway's reactor counts from the start of the machine, and a lock reports the time of day.
        for lock in self._fleet.locks:
            lock.vehicle.clock_ahead = time.time() - self._reactor.seconds()
        self._fleet.start()
        self._looking.start(_LOOK_EVERY, now=False)

    def _look(self) -> None:
        if self._fleet.counters.answered:
            self._looking.stop()
            self._out.write(self.instructions())
            self._out.flush()

    def instructions(self) -> str:
        """What to try now."""
        locks = [lock.device for lock in self._fleet.locks]
        user = "" if self._plan.password is None else f"   user {USER}, password {self._plan.password}"
        return (
            "\n"
            f"The demo runs: {LOCKS} virtual locks, {locks[0]} to {locks[-1]}, report to a gateway with a "
            "Redis of its own.\n\n"
            f"  The page:    {self._url}{user}\n"
            f"  For locks:   {self._lock_port}\n"
            f"  A command, from this directory:\n"
            f"               export JT709C_REDIS=embedded:{self._settings.data_dir}\n"
            f"               {_command_line()} send unlock {locks[0]} --wait\n"
            f"  The locks' password is {FACTORY_PASSWORD}. Ctrl-C, or kill {os.getpid()}, ends everything"
            f"{'' if self._plan.temporary is None else f' and removes {self._plan.temporary}'}.\n\n"
        )

    async def _stop(self) -> None:
        if self._looking.running:
            self._looking.stop()
        await self._fleet.stop()
        await defer.maybeDeferred(super().stopService)
        self._plan.discard()

    def stopService(self) -> "defer.Deferred[None]":
        """Stop the locks, then the gateway, and remove the data."""
        return defer.Deferred.fromCoroutine(self._stop())
