"""The table of all options: names, value parsers, defaults, and help texts."""

from collections.abc import Callable
from typing import Any, Final

from attrs import field, frozen

from jt709c_gateway.commands.signing import DEFAULT_WINDOW
from jt709c_gateway.config.values import (
    CLASSIC,
    SUBLOCK_SERIAL,
    UdpPort,
    admit,
    age,
    attribution,
    count,
    device_list,
    dialect,
    directory,
    endpoint,
    existing_directory,
    existing_file,
    host_name,
    key_id,
    length,
    lock_endpoint,
    milliseconds,
    name,
    partition_count,
    percent,
    prefix,
    pubsub,
    rate,
    redis_url,
    seconds,
    sublock_answer,
    tiles,
    udp_commands,
    udp_port,
    utc8,
    web_users,
    worker_count,
)
from jt709c_gateway.gateway.commands.address_proof import UdpCommands
from jt709c_gateway.protocol.dialects import JT701
from jt709c_gateway.redis.credentials import PASSWORD_VARIABLE
from jt709c_gateway.redis.durability import Durability
from jt709c_gateway.redis.embedded.data_directory import DEFAULT_DATA_DIR
from jt709c_gateway.redis.keys import DEFAULT_PREFIX


@frozen
class Option:
    """One option: `parse` converts its text to a value; its ValueError names the expected form."""

    name: str
    parse: Callable[[str], Any] | None
    default: Any
    help: str
    repeatable: bool = False
    #: Whether error messages must not repeat the value.
    secret: bool = field(default=False)

    @property
    def key(self) -> str:
        """The name of the attribute of `Settings`."""
        return self.name.replace("-", "_")


OPTIONS: Final = (
    Option(
        "redis",
        redis_url,
        "redis://127.0.0.1:6379",
        "Where Redis is: redis://[user[:password]@]host[:port][/db], rediss://…, unix:///path, "
        "redis+sentinel://host1,host2/name, redis+cluster://host1,host2 (both with rediss+ for TLS), or "
        "embedded[:PORT] for a server of its own; for --partitions, several with blanks between them "
        "[default: redis://127.0.0.1:6379]",
        secret=True,
    ),
    Option(
        "redis-password-file",
        existing_file,
        None,
        f"File with the password for Redis (or set {PASSWORD_VARIABLE})",
    ),
    Option("redis-ca", existing_file, None, "PEM file of the authority that signed Redis's certificate"),
    Option("redis-cert", existing_file, None, "PEM file with our certificate for Redis"),
    Option("redis-key", existing_file, None, "PEM file with the key of that certificate"),
    Option("redis-timeout", seconds, 10.0, "Seconds that Redis may take for a reply [default: 10]"),
    Option(
        "commit-window",
        milliseconds,
        0.01,
        "Milliseconds that a report may wait for others, to be read and written to Redis together; 0: none. "
        "What commands depend on never waits [default: 10]",
    ),
    Option(
        "durability",
        Durability.parse,
        Durability(),
        "What a report has to survive before it is answered, and a command before it is written: server "
        "(what the server's own settings give), fsync (a crash of its host), or replicas:N (its loss) "
        "[default: server]",
    ),
    Option(
        "durability-timeout",
        seconds,
        Durability().timeout,
        "Seconds that Redis may take for that before the batch is repeated [default: 5]",
    ),
    Option(
        "listen",
        lock_endpoint,
        ("tcp:8888",),
        "Endpoint for locks over TCP, repeatable; haproxy:tcp:8888 behind a load balancer that sends the "
        "PROXY header [default: tcp:8888]",
        repeatable=True,
    ),
    Option(
        "udp",
        udp_port,
        (UdpPort(8888),),
        "Port for locks over UDP, as 8888 or 8888:interface=127.0.0.1, repeatable [default: 8888]",
        repeatable=True,
    ),
    Option("no-tcp", None, False, "Don't listen for locks over TCP"),
    Option("no-udp", None, False, "Don't listen for locks over UDP"),
    Option(
        "http",
        endpoint,
        None,
        "Endpoint for the status page, its API, /metrics, /healthz and /readyz, such as "
        "tcp:8089:interface=127.0.0.1",
    ),
    Option(
        "web-users",
        web_users,
        None,
        "File of those who may see the status page, as htpasswd -B makes it; read again when it changes. "
        "none lets everybody in. Without either, only this host may reach --http for it",
    ),
    Option(
        "web-host",
        host_name,
        (),
        "Name by which browsers may call the status page besides localhost, repeatable",
        repeatable=True,
    ),
    Option("web-commands", None, False, "Let users of the status page issue commands"),
    Option(
        "web-command-key", key_id, None, "Id of the key in --command-keys that their commands are signed with"
    ),
    Option(
        "web-tiles",
        tiles,
        None,
        "URL template of map tiles, such as https://tiles.example.net/{z}/{x}/{y}.png [none if not given]",
    ),
    Option("web-tiles-attribution", attribution, "", "Attribution of the map tiles (HTML)"),
    Option(
        "data-dir",
        directory,
        DEFAULT_DATA_DIR,
        "Directory of the embedded server's data and password [default: jt709c-data]",
    ),
    Option(
        "embedded-open",
        None,
        False,
        "Give the embedded server no password: every user of this host can then read passwords there and "
        "open locks",
    ),
    Option("prefix", prefix, DEFAULT_PREFIX, "Prefix of all keys and channels [default: jt709c]"),
    Option(
        "partitions",
        partition_count,
        1,
        "Parts that the fleet's keys are divided into, for a Redis Cluster or several servers; the same for "
        "all gateways [default: 1]",
    ),
    Option(
        "pubsub",
        pubsub,
        CLASSIC,
        "Where events of several partitions are published: classic (channels that all of a cluster share) or "
        "sharded (SPUBLISH on the node of the partition) [default: classic]",
    ),
    Option("gateway", name, None, "Name of this gateway [default: host-pid]"),
    Option(
        "admit",
        admit,
        None,
        "Which locks are heard: any, file (those in --devices, which alone says so too) or redis (those in "
        "the set <prefix>:allowed)",
    ),
    Option(
        "devices",
        device_list,
        None,
        "File of the locks that are heard, a device id or IMEI a line; read again when it changes",
    ),
    Option(
        "workers",
        worker_count,
        1,
        "Processes that share the ports, each a gateway called NAME-1, NAME-2, …; all limits are each one's "
        "[default: 1]",
    ),
    Option("idle-timeout", seconds, 900.0, "Seconds of silence that end a session [default: 900]"),
    Option(
        "first-frame-timeout",
        seconds,
        60.0,
        "Seconds a connection has for its first valid frame [default: 60]",
    ),
    Option("max-connections", count, 50_000, "Connections in all [default: 50000]"),
    Option(
        "max-connections-per-address",
        count,
        5_000,
        "Connections per address; mobile networks hide many locks behind one [default: 5000]",
    ),
    Option("max-sessions", count, 100_000, "Locks at a time [default: 100000]"),
    Option(
        "devices-per-connection",
        count,
        8,
        "Locks of one connection or UDP address that keep their places when --max-sessions is reached; what "
        "is beyond goes first. More for relays that speak for many locks [default: 8]",
    ),
    Option(
        "sessions-per-address",
        count,
        20_000,
        "The same for all of one address (IPv6: /64 network); mobile networks hide many locks behind one "
        "[default: 20000]",
    ),
    Option("max-malformed", count, 20, "Malformed frames in a row that end a connection [default: 20]"),
    Option(
        "max-rate",
        rate,
        500.0,
        "Events a second of one lock, ten seconds' worth at once; 0 for any number [default: 500]",
    ),
    Option(
        "max-share",
        percent,
        20.0,
        "Percent of --events-max that one lock may take in an hour; 0 for any number [default: 20]",
    ),
    Option(
        "max-new-devices",
        length,
        None,
        "Devices never heard of that may come from one address in a minute; 0 for any number [1000 if not "
        "given, and then any number from this host itself]",
    ),
    Option(
        "max-unacked", count, 20_000, "Frames that may wait for Redis before reading stops [default: 20000]"
    ),
    Option("events-max", count, 100_000, "Length of the stream of events, about [default: 100000]"),
    Option(
        "events-max-age", age, 0.0, "Seconds after which events leave the stream; 0 for never [default: 0]"
    ),
    Option("history-max", count, 1_000, "Length of each lock's audit trail, about [default: 1000]"),
    Option(
        "histories-max",
        count,
        200_000,
        "Locks whose audit trail is kept; it makes room for none that begins [default: 200000]",
    ),
    Option("track-max", length, 300, "Positions kept of each lock, about; 0 for none [default: 300]"),
    Option("labels-in-events", None, False, "Add name, group and plate of a lock's label to its events"),
    Option("malformed-max", count, 1_000, "Length of the stream of malformed input [default: 1000]"),
    Option("devices-max", count, 200_000, "Locks whose last state is kept [default: 200000]"),
    Option("profiles", existing_directory, None, "Directory of command profiles that override ours"),
    Option(
        "static-password-file",
        existing_file,
        None,
        "File with the locks' static password, for unlock commands that bring none",
    ),
    Option(
        "command-keys",
        existing_file,
        None,
        "TOML file of keys; every command then has to be signed with one of them",
    ),
    Option(
        "command-window",
        seconds,
        DEFAULT_WINDOW,
        "Maximum seconds from signing a command to accepting it [default: 300]",
    ),
    Option("allow-raw", None, False, "Allow commands of raw bytes"),
    Option(
        "sublock-answer",
        sublock_answer,
        SUBLOCK_SERIAL,
        "Which serial the answer to a sub-lock's report names: the sub-lock's own (sublock) or that of the "
        "master's sentence (sentence) [default: sublock]",
    ),
    Option(
        "utc8",
        utc8,
        (),
        "First digits of the ids of units whose clocks show UTC+8, as JT/T 808 asks, and not UTC; "
        "repeatable, all for every unit",
        repeatable=True,
    ),
    Option(
        "confirm-timeout",
        seconds,
        120.0,
        "Seconds within which a lock must report its movement after it acknowledged a command [default: 120]",
    ),
    Option(
        "ask",
        dialect,
        (JT701,),
        "Dialect of locks that are queried for IMEI and firmware, at most once a day; repeatable, "
        "none for no lock [default: jt701]",
        repeatable=True,
    ),
    Option(
        "udp-window",
        seconds,
        30.0,
        "Seconds after a datagram in which a command may follow to its address [default: 30]",
    ),
    Option(
        "udp-commands",
        udp_commands,
        UdpCommands.CONFIRMED,
        "Where commands that open a lock, or show a password, go over UDP: confirmed (an address that has "
        "answered a question sent there), any (wherever its last datagram came from) or tcp (nowhere, they "
        "wait for the lock to come over TCP) [default: confirmed]",
    ),
    Option(
        "gateway-ttl",
        seconds,
        15.0,
        "Seconds after which a silent gateway counts as dead and its commands are adopted [default: 15]",
    ),
    Option(
        "shutdown-timeout",
        seconds,
        10.0,
        "Seconds to finish work in progress when stopping [default: 10]",
    ),
)
