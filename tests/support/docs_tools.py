"""Tools besides Python that the tests of the documentation need."""

import os
import shutil
from typing import NoReturn

from twisted.trial.unittest import SkipTest

#: Set where a missing tool is an error, as in .ci/run.
REQUIRE = "JT709C_REQUIRE_TOOLS"


def missing(what: str) -> NoReturn:
    """Skip the test for a missing tool, or fail where all tools are required."""
    if os.environ.get(REQUIRE):
        raise AssertionError(f"{REQUIRE} is set, and the test needs {what}")
    raise SkipTest(f"needs {what}")


def needed(*programs: str, why: str = "") -> str:
    """Return the path of the first of these programs that exists."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    for program in programs:
        if (found := shutil.which(program, path=path)) is not None:
            return found
    missing(why or " or ".join(programs))
