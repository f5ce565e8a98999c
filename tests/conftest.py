"""Settings for all tests."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings
from twisted.internet import reactor

# A shell has what it runs in the background ignore interrupts, and all that is started from here would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if sys.dont_write_bytecode and "PYTHONPYCACHEPREFIX" not in os.environ:
    # Hundreds of processes are started from here, and each would compile its modules: half of its start.
    _COMPILED = tempfile.TemporaryDirectory(prefix="jt709c-tests-")
    os.environ["PYTHONPYCACHEPREFIX"] = _COMPILED.name
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The same examples each time: a change is judged by what it does, and not by what was drawn. Without CI set,
# every run looks for new ones.
#
# No example has a time limit: how long one takes says more about what else the machine does.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("default")
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True)
def nothing_left_to_the_reactor() -> Iterator[None]:
    """A test leaves no delayed call in the real reactor.

    Trial looks for them only after its asynchronous tests, where those that a synchronous one has left would
    be laid to the charge of whichever comes next in that process.
    """
    yield
    left = reactor.getDelayedCalls()  # type: ignore[attr-defined]
    for call in left:
        call.cancel()
    assert not left, f"{len(left)} delayed calls, the first of them {left[0]}"
