"""Redis commands that the committer executes for a command, and their conditions (docs/fencing.rst)."""

from typing import Final

from jt709c_gateway.redis.command_store_types import Record
from jt709c_gateway.redis.commit_records import (
    AnswerCondition,
    EvidenceCondition,
    HeldCondition,
    RedisCommand,
    RequeueCondition,
    UnknownCondition,
)
from jt709c_gateway.redis.keys import Keys

#: Lifetime of a command's record, in seconds.
KEEP: Final = 7 * 24 * 3600
#: Lifetime of the outcomes under a `reply_to` name, in seconds, and their maximum number.
REPLY_TTL: Final = 3600
MAX_REPLIES: Final = 1000
#: Seconds within which a report may still settle a command with unknown outcome.
UNSETTLED_TTL: Final = 24 * 3600
#: Maximum number of invalid entries kept.
MAX_INVALID: Final = 1000
#: Maximum number of commands that can be listed; as in `command_accept.lua`.
MAX_RECENT: Final = 10_000


class CommandWrites:
    """Makes Redis commands and conditions for the committer."""

    keys: Keys
    gateway: str
    holder: str

    def held_condition(self, command_id: str, token: int, attempts: int | None = None) -> HeldCondition:
        """Condition: this claim still holds the command, and the command was sent `attempts` times."""
        return HeldCondition(
            key=self.keys.command(command_id),
            holder=self.holder,
            token=str(token),
            attempts=None if attempts is None else str(attempts),
        )

    def requeue_condition(self, command_id: str, token: int) -> RequeueCondition:
        """Condition: this claim still holds the command, and it may return to its lock's queue."""
        return RequeueCondition(key=self.keys.command(command_id), holder=self.holder, token=str(token))

    def evidence_condition(self, command_id: str, report: str | None = None) -> EvidenceCondition:
        """Condition: a report with this fingerprint is stored, and may still confirm the command."""
        return EvidenceCondition(key=self.keys.command(command_id), report=report)

    def answer_condition(self, command_id: str) -> AnswerCondition:
        """Condition: an answer of the lock may still be added to the command's record."""
        return AnswerCondition(key=self.keys.command(command_id))

    def unknown_condition(self, command_id: str) -> UnknownCondition:
        """Condition: the command has no record."""
        return UnknownCondition(key=self.keys.command(command_id))

    def record_writes(self, command_id: str, record: Record) -> list[RedisCommand]:
        """Write the record of a command."""
        key = self.keys.command(command_id)
        flat = [part for item in record.items() for part in item]
        return [("HSET", key, *flat), ("EXPIRE", key, KEEP)]

    def recent_writes(self, command_id: str, now: float) -> list[RedisCommand]:
        """Add the command, accepted at `now` in epoch seconds, to the recent ones."""
        key = self.keys.recent_commands
        return [("ZADD", key, f"{now:.6f}", command_id), ("ZREMRANGEBYRANK", key, 0, -MAX_RECENT - 1)]

    def release_writes(self, command_id: str) -> list[RedisCommand]:
        """Release the command from this gateway."""
        return [
            ("HSET", self.keys.command(command_id), "holder", ""),
            ("HDEL", self.keys.under_way(self.gateway), command_id),
            ("ZREM", self.keys.deadlines, command_id),
        ]

    def forget_writes(self, command_id: str) -> list[RedisCommand]:
        """Release a command without a record from this gateway."""
        return self.release_writes(command_id)[1:]

    def forward_writes(self, command_id: str) -> list[RedisCommand]:
        """Remove a claimed command from this partition; another one gets it."""
        return [
            ("EXPIRE", self.keys.command(command_id), 0),
            ("HDEL", self.keys.under_way(self.gateway), command_id),
            ("ZREM", self.keys.deadlines, command_id),
            ("ZREM", self.keys.recent_commands, command_id),
        ]

    def requeue_writes(
        self, command_id: str, device: str, command: str, expires_at: float, *, last: bool = False
    ) -> list[RedisCommand]:
        """Put the command back at the head of its lock's queue, or at its end as the `last` one."""
        waiting = self.keys.waiting(device)
        return [
            ("HSET", self.keys.command(command_id), "holder", ""),
            ("HDEL", self.keys.under_way(self.gateway), command_id),
            ("RPUSH" if last else "LPUSH", waiting, command),
            ("EXPIRE", waiting, KEEP),
            ("ZADD", self.keys.deadlines, f"{expires_at:.3f}", command_id),
        ]

    def unsettled_writes(self, device: str, command_id: str, written_at: float | None) -> list[RedisCommand]:
        """Note that reports may settle the command, sent at `written_at`; with None remove that note."""
        key = self.keys.unsettled(device)
        if written_at is None:
            return [("HDEL", key, command_id)]
        value = f"{written_at:.3f} {self.gateway}"
        return [("HSET", key, command_id, value), ("EXPIRE", key, UNSETTLED_TTL)]

    def reply_writes(self, name: str, outcome: str) -> list[RedisCommand]:
        """Push an outcome to the list of this `reply_to` name."""
        key = self.keys.reply(name)
        return [
            ("RPUSH", key, outcome),
            ("LTRIM", key, -MAX_REPLIES, -1),
            ("EXPIRE", key, REPLY_TTL),
        ]

    def invalid_writes(self, entry: str) -> list[RedisCommand]:
        """Keep an invalid entry for inspection."""
        return [("LPUSH", self.keys.invalid, entry), ("LTRIM", self.keys.invalid, 0, MAX_INVALID - 1)]

    def wrong_password_writes(self, device: str, count: int) -> list[RedisCommand]:
        """Store the number of wrong passwords in a row that commands have sent to this lock."""
        return [("HSET", self.keys.device(device), "wrong_passwords", count)]
