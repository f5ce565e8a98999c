"""What the committer carries out for a command, and what has to hold as it does (docs/fencing.rst)."""

from typing import Any, Final, Literal

from jt709c_gateway.redis.command_store_types import Record
from jt709c_gateway.redis.keys import Keys

#: Seconds for which the record of a command is kept.
KEEP: Final = 7 * 24 * 3600
#: Seconds for which outcomes wait under a `reply_to` name, and how many.
REPLY_TTL: Final = 3600
MAX_REPLIES: Final = 1000
#: Seconds in which a report may still settle a command whose fate is unknown.
UNSETTLED_TTL: Final = 24 * 3600
#: Entries kept of what could not be read.
MAX_INVALID: Final = 1000
#: Commands that can be listed; as in `command_accept.lua`.
MAX_RECENT: Final = 10_000

RedisCommand = tuple[Any, ...]
#: What has to hold before anything of a record is written: see `commit_conditions.lua`.
Condition = tuple[str, ...]


class CommandWrites:
    """Commands and conditions for the committer."""

    keys: Keys
    gateway: str
    holder: str

    def held_condition(self, command_id: str, token: int, attempts: int | None = None) -> Condition:
        """For the committer: the command is of this claim still, and has been written so often."""
        condition = ("held", self.keys.command(command_id), self.holder, str(token))
        return condition if attempts is None else (*condition, str(attempts))

    def requeue_condition(self, command_id: str, token: int) -> Condition:
        """The same, and it may go back into its lock's queue."""
        return "put_back", self.keys.command(command_id), self.holder, str(token)

    def evidence_condition(self, what: Literal["evidence", "answer"], command_id: str) -> Condition:
        """For the committer: what a lock says may still change the command's record."""
        return what, self.keys.command(command_id)

    def unknown_condition(self, command_id: str) -> Condition:
        """For the committer: there is no record of the command."""
        return "unknown", self.keys.command(command_id)

    def record_writes(self, command_id: str, record: Record) -> list[RedisCommand]:
        """Write the record of a command."""
        key = self.keys.command(command_id)
        flat = [part for item in record.items() for part in item]
        return [("HSET", key, *flat), ("EXPIRE", key, KEEP)]

    def recent_writes(self, command_id: str, now: float) -> list[RedisCommand]:
        """The command is among the last ones, taken in at `now`, epoch seconds."""
        key = self.keys.recent_commands
        return [("ZADD", key, f"{now:.6f}", command_id), ("ZREMRANGEBYRANK", key, 0, -MAX_RECENT - 1)]

    def release_writes(self, command_id: str) -> list[RedisCommand]:
        """The command is no longer in this gateway's hands."""
        return [
            ("HSET", self.keys.command(command_id), "holder", ""),
            ("HDEL", self.keys.under_way(self.gateway), command_id),
            ("ZREM", self.keys.deadlines, command_id),
        ]

    def forget_writes(self, command_id: str) -> list[RedisCommand]:
        """What has no record is in nobody's hands."""
        return self.release_writes(command_id)[1:]

    def requeue_writes(
        self, command_id: str, device: str, command: str, expires_at: float
    ) -> list[RedisCommand]:
        """The command goes back to the head of its lock's queue."""
        waiting = self.keys.waiting(device)
        return [
            ("HSET", self.keys.command(command_id), "holder", ""),
            ("HDEL", self.keys.under_way(self.gateway), command_id),
            ("LPUSH", waiting, command),
            ("EXPIRE", waiting, KEEP),
            ("ZADD", self.keys.deadlines, f"{expires_at:.3f}", command_id),
        ]

    def unsettled_writes(self, device: str, command_id: str, written_at: float | None) -> list[RedisCommand]:
        """What its lock reports may settle the command, written then; with None nothing may (any more)."""
        key = self.keys.unsettled(device)
        if written_at is None:
            return [("HDEL", key, command_id)]
        value = f"{written_at:.3f} {self.gateway}"
        return [("HSET", key, command_id, value), ("EXPIRE", key, UNSETTLED_TTL)]

    def reply_writes(self, name: str, outcome: str) -> list[RedisCommand]:
        """Push an outcome to whoever asked for it under this name."""
        key = self.keys.reply(name)
        return [
            ("RPUSH", key, outcome),
            ("LTRIM", key, -MAX_REPLIES, -1),
            ("EXPIRE", key, REPLY_TTL),
        ]

    def invalid_writes(self, entry: str) -> list[RedisCommand]:
        """Keep what could not be read for a person to look at."""
        return [("LPUSH", self.keys.invalid, entry), ("LTRIM", self.keys.invalid, 0, MAX_INVALID - 1)]

    def wrong_password_writes(self, device: str, count: int) -> list[RedisCommand]:
        """How many wrong passwords in a row commands have shown to this lock."""
        return [("HSET", self.keys.device(device), "wrong_passwords", count)]
