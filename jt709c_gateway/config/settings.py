"""The checked values of all options, as the rest of the package reads them."""

from pathlib import Path

from attrs import field, frozen

from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.config.values import UdpPort
from jt709c_gateway.gateway.allowlist_file import Allowlist
from jt709c_gateway.gateway.commands.address_proof import UdpCommands
from jt709c_gateway.redis.durability import Durability
from jt709c_gateway.web.htpasswd import UserFile
from jt709c_gateway.web.settings import Tiles


@frozen(kw_only=True)
class Settings:
    """The checked values of all options. Times are in seconds; None means not given.

    `redis_password` and `static_password` are read from their files, `ask` has the dialects that are queried.
    """

    redis: str = field(repr=False)
    redis_password: str | None = field(repr=False)
    redis_password_file: Path | None
    redis_ca: Path | None
    redis_cert: Path | None
    redis_key: Path | None
    redis_timeout: float
    commit_window: float
    durability: Durability
    durability_timeout: float
    listen: tuple[str, ...]
    udp: tuple[UdpPort, ...]
    no_tcp: bool
    no_udp: bool
    http: str | None
    web_users: UserFile | str | None
    web_host: tuple[str, ...]
    web_commands: bool
    web_command_key: str | None
    web_tiles: Tiles | None
    web_tiles_attribution: str
    data_dir: Path
    embedded_open: bool
    prefix: str
    partitions: int
    pubsub: str
    gateway: str
    admit: str
    devices: Allowlist | None
    workers: int
    idle_timeout: float
    first_frame_timeout: float
    max_connections: int
    max_connections_per_address: int
    max_sessions: int
    devices_per_connection: int
    sessions_per_address: int
    max_malformed: int
    max_rate: float
    max_share: float
    max_new_devices: int | None
    max_unacked: int
    events_max: int
    events_max_age: float
    history_max: int
    histories_max: int
    track_max: int
    labels_in_events: bool
    malformed_max: int
    devices_max: int
    profiles: Path | None
    static_password: str | None = field(repr=False)
    static_password_file: Path | None
    command_keys: dict[str, SigningKey] | None = field(repr=False)
    command_window: float
    allow_raw: bool
    sublock_answer: str
    utc8: tuple[str, ...]
    confirm_timeout: float
    ask: frozenset[str]
    udp_window: float
    udp_commands: UdpCommands
    gateway_ttl: float
    shutdown_timeout: float
