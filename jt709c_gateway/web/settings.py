"""Values of options that only the status page uses."""

from typing import Final

from attrs import frozen

#: The value of --web-users that lets everybody in.
EVERYBODY: Final = "none"


@frozen
class Tiles:
    """Where map tiles come from: a template with {z}, {x} and {y}, and its origin for a browser's policy."""

    url: str
    source: str
