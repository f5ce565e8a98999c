"""Test case and helpers for sessions."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.policy import Policy
from tests.support.committer import Fleet, events_in
from tests.vectors import binary

FIRST = bytes.fromhex("794308010679")
SECOND = bytes.fromhex("794308010680")


def heartbeat(wire: bytes = FIRST, serial: int = 1) -> bytes:
    return binary(0x0002, serial=serial, wire=wire)


def changes(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["device"], one["data"]["state"]) for one in events if one["kind"] == "session"]


class SessionCase(SynchronousTestCase):
    policy = Policy(idle_timeout=100, first_frame_timeout=10, max_sessions=3)

    def setUp(self) -> None:
        self.fleet = Fleet(self.policy)
        self.gateway = self.fleet.gateway

    def changes(self) -> list[tuple[str, str]]:
        return changes(events_in(self.fleet.commit()))

    def dropped(self) -> dict[str, int]:
        return dict(self.gateway.counters.dropped)


def split_frames(data: bytes) -> list[bytes]:
    return [b"\x7e" + part + b"\x7e" for part in data.strip(b"\x7e").split(b"\x7e\x7e")]
