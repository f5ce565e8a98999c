"""The options of the connection to Redis, as the command line has them."""

from typing import NamedTuple


class RedisOptions(NamedTuple):
    """The options of the Redis connection; `redis_client.redis_link` builds a `Link` from them."""

    redis_url: str
    redis_password_file: str | None = None
    redis_ca: str | None = None
    redis_cert: str | None = None
    redis_key: str | None = None
    partitions: int | None = None
