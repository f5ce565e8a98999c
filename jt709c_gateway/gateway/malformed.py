"""Counts and stores input that could not be read, and limits its log lines."""

from typing import Final

from attrs import define
from twisted.logger import Logger

from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.protocol.framing import MALFORMED_KEPT, Malformed
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.batch import Recipient
from jt709c_gateway.redis.commit_records import MalformedRecord
from jt709c_gateway.redis.commit_router import Commits

#: Log lines about bad input per so many seconds; all of it is counted, and the last of it is in Redis.
_LOG_LINES: Final = 20
_LOG_SECONDS: Final = 60.0
#: Bytes of a frame that a log line shows.
_LOGGED_HEX: Final = 64


def kept_bytes(message: Message) -> bytes:
    """The part of a message that is stored when it is rejected or damaged; passwords are masked already."""
    raw = message.raw
    return (raw.encode("latin-1") if raw.startswith("(") else bytes.fromhex(raw))[:MALFORMED_KEPT]


@define(eq=False)
class MalformedInput:
    """Stores bad input in `jt709c:malformed`; the committer bounds its number."""

    log = Logger()

    committer: Commits
    counters: Counters
    _log_window_start: float = 0.0
    _logged: int = 0

    def report(
        self, malformed: Malformed, peer: str, now: float, iso: str, sender: Recipient | None = None
    ) -> None:
        """Count, store and log a frame that could not be read; `sender` is notified of the commit."""
        self.record(peer, malformed.reason, malformed.raw, iso, sender)
        if self.may_log(now):
            self.log.info(
                "malformed ({reason}) from {peer}: {raw}",
                reason=malformed.reason,
                peer=peer,
                raw=malformed.raw[:_LOGGED_HEX].hex(),
            )

    def record(self, peer: str, reason: str, raw: bytes, iso: str, sender: Recipient | None = None) -> None:
        """Count and store unreadable input, with passwords masked; `sender` is notified of the commit."""
        self.counters.malformed[reason] += 1
        self.store(peer, reason, raw, iso, sender)

    def store(self, peer: str, reason: str, raw: bytes, iso: str, sender: Recipient | None = None) -> None:
        """Store input without counting it as malformed."""
        record = MalformedRecord(peer=peer, reason=reason, raw=raw.hex(), time=iso)
        self.committer.submit(record, sender)

    def may_log(self, now: float) -> bool:
        """Whether another line about bad input may be logged at `now`, in monotonic seconds."""
        if now - self._log_window_start >= _LOG_SECONDS:
            self._log_window_start, self._logged = now, 0
        self._logged += 1
        return self._logged <= _LOG_LINES
