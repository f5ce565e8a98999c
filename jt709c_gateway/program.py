"""The ``jt709c-gateway`` program: the gateway in the foreground, with the options of the twistd plugin.

``twistd`` remains for what it does beyond that: a daemon in the background, a pid file, another user.
"""

import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import twisted
from twisted.logger import (
    FileLogObserver,
    LogEvent,
    Logger,
    eventAsText,
    formatTime,
    globalLogBeginner,
)
from twisted.python import usage

from jt709c_gateway import __version__
from jt709c_gateway.config.option_parser import Options
from jt709c_gateway.demo import DemoPlan, DemoService, plan_demo
from jt709c_gateway.service import makeService
from jt709c_gateway.startup import EXIT_FAILURE, StartError
from jt709c_gateway.util.twisted_log import is_port_line

_log = Logger()


class ProgramOptions(Options):
    """Options of ``jt709c-gateway``: those of the plugin, and `--demo`."""

    synopsis = "Usage: jt709c-gateway [options]"

    def __init__(self) -> None:
        super().__init__()
        self.demo = False
        self.plan: DemoPlan | None = None

    def opt_demo(self) -> None:
        """Try it: a gateway on loopback with its own Redis, the status page and three virtual locks."""
        self.demo = True

    def postOptions(self) -> None:
        """Fill in the demo's options where none are given."""
        if self.demo:
            if self._config is not None:
                raise usage.UsageError("--demo: expected without --config")
            self.plan = plan_demo(self._given)
            self.preset(self.plan.options)
        super().postOptions()


def log_line(event: LogEvent) -> str | None:
    """Format an event as time, level (unless it is info) and text; None for lines to leave out."""
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if is_port_line(str(event.get("log_namespace")), text):
        return None
    level = event["log_level"].name
    shown = "" if level == "info" else f"{level}: "
    return f"{formatTime(event['log_time'])} {shown}{text}\n"


def run(arguments: Sequence[str]) -> None:
    """Run the gateway with these options until a signal or an error stops it."""
    options = ProgramOptions()
    options.parseOptions(list(arguments))
    from twisted.internet import reactor

    running: Any = reactor
    out = sys.stdout
    globalLogBeginner.beginLoggingTo([FileLogObserver(out, log_line)])  # type: ignore[list-item]
    _log.info(
        "jt709c-gateway {version} (Twisted {twisted}, Python {python})",
        version=__version__,
        twisted=twisted.__version__,
        python=platform.python_version(),
    )
    try:
        service: Any = makeService(options)
        if options.plan is not None:
            service = DemoService(running, service, options.settings, options.plan, out)
        service.privilegedStartService()
        service.startService()
    except StartError:
        if options.plan is not None:
            options.plan.discard()
        raise
    running.addSystemEventTrigger("before", "shutdown", service.stopService)
    running.run()
    _log.info("stopped")


def main() -> None:
    """Run the program; an error at the start is one line."""
    try:
        run(sys.argv[1:])
    except StartError as error:
        # Once standard error goes to the log, StartError has written its line to the terminal itself.
        sys.exit(str(error) if sys.stderr is sys.__stderr__ else EXIT_FAILURE)
    except BrokenPipeError:
        # The reader of --help has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        sys.exit(EXIT_FAILURE)


if __name__ == "__main__":
    main()
