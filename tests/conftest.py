"""Settings for all tests."""

import os

from hypothesis import settings

# The same examples each time: a change is judged by what it does, and not by what was drawn. Whoever looks for
# new examples runs the tests without CI set.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
