"""Settings for all tests."""

import os

from hypothesis import settings

# The same examples each time: a change is judged by what it does, and not by what was drawn. Without CI set,
# every run looks for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
