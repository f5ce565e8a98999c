"""Processes that a benchmark starts, and what processes cost."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from common import BenchmarkError

_TICKS = os.sysconf("SC_CLK_TCK")
#: Kind of the clock of a process, by which the kernel makes a clock id from a process id.
_PROCESS_CLOCK = 2


def cpu_seconds(pid: int) -> float:
    """CPU time of a process in user and kernel mode, all threads, to the nanosecond (clock_getcpuclockid)."""
    try:
        return time.clock_gettime(~pid << 3 | _PROCESS_CLOCK)
    except OSError:
        raise BenchmarkError(f"process {pid} has ended") from None


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        raise BenchmarkError(f"process {pid} has ended") from None


def busy_seconds() -> float:
    """What all processes of the machine have used so far; in a virtual one, what it was denied as well."""
    fields = [
        int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
    ]
    user, nice, system, _idle, _waiting, *rest = fields
    return (user + nice + system + sum(rest)) / _TICKS


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in use (VmRSS)."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise BenchmarkError(f"process {pid} has ended")


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        raise BenchmarkError(f"process {pid} has ended") from None


class Child:
    """A process of ours. It is ended when its block is left, however that happens."""

    def __init__(
        self, command: Sequence[str | Path], directory: Path | None = None, pipes: bool = False
    ) -> None:
        channel = subprocess.PIPE if pipes else subprocess.DEVNULL
        # In a session of its own: Ctrl-C is for us, and we end our children in order.
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=directory,
            stdin=channel,
            stdout=channel,
            stderr=None if pipes else subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to end; insist after a while."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                # A busy machine is no reason to lose all results.
                self.process.kill()
                self.process.wait()
            except BaseException:
                self.process.kill()
                self.process.wait()
                raise
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def say(self, text: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise BenchmarkError("a process of the benchmark has ended") from None

    def hear(self) -> dict[str, Any]:
        """The line of JSON that it writes next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise BenchmarkError("a process of the benchmark has ended")
        heard: dict[str, Any] = json.loads(line)
        return heard
