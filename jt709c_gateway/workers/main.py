"""Main program of a worker: a gateway with the sockets and settings of its supervisor."""

import json
import os
import pickle
import socket
import sys
from typing import Any

from prometheus_client import generate_latest
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, eventAsText, globalLogBeginner

from jt709c_gateway.daemon import GatewayService
from jt709c_gateway.redis.embedded.launcher import belong_to
from jt709c_gateway.util.clock import count_monotonic
from jt709c_gateway.util.signals import Signals
from jt709c_gateway.util.twisted_log import is_port_line
from jt709c_gateway.workers.ipc import Report, StatusReporter
from jt709c_gateway.workers.worker_process import ARGUMENTS, STATUS, WorkerArguments

_MAX_TEXT = 16_384


class _Log:
    """Writes log events for the supervisor, each as a line of JSON: level, system, text."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __call__(self, event: Any) -> None:
        level = event.get("log_level", LogLevel.info).name
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)[:_MAX_TEXT]
        who = event.get("log_namespace", "")
        if is_port_line(who, text):
            return
        # Twisted's legacy log messages have no namespace of their own.
        self._file.write(json.dumps([level, "" if who == "log_legacy" else who, text]) + "\n")
        self._file.flush()


def _read_arguments() -> WorkerArguments:
    """Read the arguments from the supervisor; the descriptor is replaced, since they contain passwords."""
    with open(ARGUMENTS, "rb", closefd=False) as file:
        given: WorkerArguments = pickle.load(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, ARGUMENTS)
    os.close(nothing)
    return given


def main() -> None:
    """Run until SIGTERM."""
    given = _read_arguments()
    belong_to(given.parent)
    observer: Any = _Log(sys.stdout)
    globalLogBeginner.beginLoggingTo([observer])
    from twisted.internet import reactor

    running: Any = reactor
    count_monotonic(running)
    gateway = GatewayService(running, given.settings, given.profiles, given.inherited)
    gateway.privilegedStartService()
    gateway.startService()
    Signals(running, gateway.reread).startService()
    running.addSystemEventTrigger("before", "shutdown", gateway.stopService)
    reporter = StatusReporter(lambda: Report(gateway.readiness(), generate_latest(gateway.registry).decode()))
    running.adoptStreamConnection(STATUS, socket.AF_UNIX, Factory.forProtocol(lambda: reporter))
    os.close(STATUS)
    running.callWhenRunning(reporter.report)
    running.run()


if __name__ == "__main__":
    main()
