"""What the tests of the documentation need beside Python, and what becomes of one that hasn't got it."""

import os
import shutil
from typing import NoReturn

from twisted.trial.unittest import SkipTest

#: Set where a missing tool is a mistake, as in .ci/run.
REQUIRE = "JT709C_REQUIRE_TOOLS"


def missing(what: str) -> NoReturn:
    """Skip the test, and say why; where everything has to be there, fail."""
    if os.environ.get(REQUIRE):
        raise AssertionError(f"{REQUIRE} is set, and the test needs {what}")
    raise SkipTest(f"needs {what}")


def needed(*programs: str, why: str = "") -> str:
    """Where the first of these programs is that there is."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    for program in programs:
        if (found := shutil.which(program, path=path)) is not None:
            return found
    missing(why or " or ".join(programs))
