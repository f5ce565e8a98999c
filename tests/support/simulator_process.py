"""`jt709c simulate` as a process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import LOOPBACK, PATIENCE
from tests.support.daemon import Daemon, twistd_environment


@contextmanager
def simulated(daemon: Daemon, *options: str) -> Iterator[None]:
    """Run virtual locks against a daemon for the duration of the block."""
    command = [sys.executable, "-c", "from jt709c_gateway.cli.main import main; main()", "simulate"]
    command += ["--tcp", f"{LOOPBACK}:{daemon.tcp_port}", "--interval", "2", *options]
    process = subprocess.Popen(
        command,
        cwd=daemon.directory,
        env=twistd_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(PATIENCE)
