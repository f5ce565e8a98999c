"""Settings for all tests."""

import os

from hypothesis import settings

# The same examples each time: a change is judged by what it does, and not by what was drawn. Without CI set,
# every run looks for new ones.
#
# No example has a time limit: how long one takes says more about what else the machine does.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("default")
if os.environ.get("CI"):
    settings.load_profile("ci")
