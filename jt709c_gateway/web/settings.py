"""The options that the status page uses."""

from typing import Final, Protocol

from attrs import frozen

from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.web.htpasswd import UserFile

#: The value of --web-users that lets everybody in.
EVERYBODY: Final = "none"


@frozen
class Tiles:
    """Where map tiles come from: a template with {z}, {x} and {y}, and its origin for a browser's policy."""

    url: str
    source: str


# `config` is above this package, so what its `Settings` must have is said here.
class WebSettings(Protocol):
    """The settings of the status page; --help explains each option."""

    @property
    def gateway(self) -> str: ...  # noqa: D102

    @property
    def prefix(self) -> str: ...  # noqa: D102

    @property
    def redis_timeout(self) -> float: ...  # noqa: D102

    @property
    def gateway_ttl(self) -> float: ...  # noqa: D102

    @property
    def track_max(self) -> int: ...  # noqa: D102

    @property
    def allow_raw(self) -> bool: ...  # noqa: D102

    @property
    def command_keys(self) -> dict[str, SigningKey] | None: ...  # noqa: D102

    @property
    def static_password(self) -> str | None: ...  # noqa: D102

    @property
    def http(self) -> str | None: ...  # noqa: D102

    @property
    def web_users(self) -> UserFile | str | None: ...  # noqa: D102

    @property
    def web_host(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def web_commands(self) -> bool: ...  # noqa: D102

    @property
    def web_command_key(self) -> str | None: ...  # noqa: D102

    @property
    def web_tiles(self) -> Tiles | None: ...  # noqa: D102

    @property
    def web_tiles_attribution(self) -> str: ...  # noqa: D102
