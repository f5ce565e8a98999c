"""The floor: the gateway's own transports, and behind them a handler that only answers.

It cuts frames, checks them, and writes an answer for each; it decodes nothing and has no Redis. What it
needs for a frame no gateway built on these transports can do without. `end_to_end.py --floor` runs it.
"""

import argparse
from typing import Any

from common import LOOPBACK, positive, run
from frames import device_wire
from twisted.internet.endpoints import serverFromString

from jt709c_gateway.protocol import answers, jt808
from jt709c_gateway.protocol.framing import Frame
from jt709c_gateway.transport.gathered_reads import GatheredReads
from jt709c_gateway.transport.interfaces import Link
from jt709c_gateway.transport.listeners import TcpService
from jt709c_gateway.transport.tcp import LockFactory

_ANSWER = answers.general_answer(jt808.identify(device_wire(1)), 1, jt808.LOCATION)


class Conversation:
    """Answers each frame with the same bytes."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def received(self, frames: list[Frame]) -> None:
        """Answer."""
        self._link.send(_ANSWER * len(frames))

    def skipped(self, count: int) -> None:
        """Nothing."""

    def closed(self, reason: str) -> None:
        """Nothing."""


class Handler:
    """The least that a transport needs to be connected to."""

    def open(self, link: Link) -> Conversation:
        """A peer is there."""
        return Conversation(link)

    def dropped(self, reason: str) -> None:
        """Nothing."""


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=positive, required=True, help="port on the loopback interface")
    parser.add_argument("--window", type=float, default=10, help="of reading, in ms [%(default)s]")
    options = parser.parse_args()
    port = options.port
    from twisted.internet import reactor as installed

    reactor: Any = installed
    description = f"tcp:{port}:interface={LOOPBACK}:backlog=4096"
    factory = LockFactory(Handler(), max_connections=50_000, max_per_address=50_000)
    endpoint = serverFromString(reactor, description)  # type: ignore[no-untyped-call]
    service = TcpService(endpoint, factory, description, GatheredReads(reactor, options.window / 1000))
    service.startService()
    print("{}", flush=True)
    reactor.run()


if __name__ == "__main__":
    run(main)
