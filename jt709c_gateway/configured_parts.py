"""Parts of a gateway as its settings want them: its partitions, its limits, and the admission of devices."""

from collections.abc import Sequence

from jt709c_gateway.config.settings import Settings
from jt709c_gateway.config.values import ADMIT_FILE, ADMIT_REDIS, SENTENCE_SERIAL, SHARDED
from jt709c_gateway.gateway.admission import Admission, FileAdmission, PartitionedAdmission, SetAdmission
from jt709c_gateway.gateway.event_budget import share_of
from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.partition import Partition
from jt709c_gateway.protocol.zones import Utc8Devices
from jt709c_gateway.redis.allowlist import RedisAllowlist
from jt709c_gateway.redis.partitioned_queries import PartitionedQueries
from jt709c_gateway.redis.partitions import Partitions


def partition_layout(settings: Settings) -> Partitions:
    """The partitions of the fleet."""
    return Partitions(settings.prefix, settings.partitions, settings.pubsub == SHARDED)


def policy(settings: Settings) -> Policy:
    """The limits of a gateway."""
    return Policy(
        idle_timeout=settings.idle_timeout,
        first_frame_timeout=settings.first_frame_timeout,
        max_malformed=settings.max_malformed,
        max_sessions=settings.max_sessions,
        devices_per_connection=settings.devices_per_connection,
        sessions_per_address=settings.sessions_per_address,
        max_rate=settings.max_rate,
        max_share=share_of(settings.events_max, settings.max_share),
        utc8=Utc8Devices(settings.utc8),
        max_new_devices=settings.max_new_devices,
        moment_length=0.001,
        sentence_serial=settings.sublock_answer == SENTENCE_SERIAL,
    )


def admission(settings: Settings, partitions: Sequence[Partition], queries: PartitionedQueries) -> Admission:
    """What decides which devices are admitted."""
    if settings.admit == ADMIT_FILE:
        assert settings.devices is not None
        return FileAdmission(settings.devices)
    if settings.admit == ADMIT_REDIS:
        sets = [SetAdmission(RedisAllowlist(one.redis.commands, one.keys)) for one in partitions]
        return sets[0] if len(sets) == 1 else PartitionedAdmission(queries.partitions, sets)
    return Admission()
