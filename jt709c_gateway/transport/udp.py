"""UDP transport for locks: whole frames per datagram, answers to its source address."""

from typing import Any

from attrs import define, field
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.transport.interfaces import SHUTDOWN, ConnectionHandler, Handler, peer_name

_Address = tuple[Any, ...]


@define(eq=False)
class UdpLink:
    """One source address of datagrams, a `Link` for the handler."""

    port: "LockDatagrams"
    address: _Address
    transport_name: str = "udp"
    peer: str = ""
    connection: ConnectionHandler = field(init=False)

    def send(self, data: bytes) -> bool:
        """Send one datagram; return whether it was sent."""
        return self.port.send(data, self.address)

    def close(self, reason: str) -> None:
        """Forget the address and notify the handler."""
        if self.port.forget(self):
            self.port.handler.dropped(reason)
            self.connection.closed(reason)

    def hasten(self, urgent: bool) -> None:
        """Count it at the port, which is read at once while there is a reason at any address."""
        self.port.hasten(urgent)

    def pause(self) -> None:
        """Do nothing: datagrams can't be paused; a full handler drops them, and the locks repeat them."""

    def resume(self) -> None:
        """Do nothing, see `pause`."""


class LockDatagrams(DatagramProtocol):
    """A UDP port. An address is kept while the handler has a session for it, up to a limit."""

    log = Logger()
    noisy = False
    transport: Any

    def __init__(self, handler: Handler, max_addresses: int) -> None:
        self.handler = handler
        self._max_addresses = max_addresses
        self._links: dict[_Address, UdpLink] = {}
        #: Number of reasons to read at once what comes.
        self._urgent = 0

    def logPrefix(self) -> str:
        """Name the port in Twisted's line about its start."""
        return "UDP for locks"

    def datagramReceived(self, datagram: bytes, addr: _Address) -> None:
        """Split the datagram into frames and pass them to the handler; exceptions affect this peer only."""
        link = self._links.get(addr)
        if link is None:
            if len(self._links) >= self._max_addresses:
                self.handler.dropped("max_addresses")
                return
            link = self._meet(addr)
        framer = Framer()
        try:
            frames = framer.feed_datagram(datagram)
            if framer.skipped:
                link.connection.skipped(framer.skipped)
            link.connection.received(frames)
        except Exception:
            self.log.failure("handling a datagram of {peer} failed", peer=link.peer)
            link.close("error")

    def _meet(self, address: _Address) -> UdpLink:
        """Return a link for a new address."""
        link = UdpLink(self, address, peer=peer_name(address[0], address[1]))
        link.connection = self.handler.open(link)
        self._links[address] = link
        return link

    def send(self, data: bytes, address: _Address) -> bool:
        """Send one datagram; return False when the port is closed or the kernel refuses."""
        if self.transport is None:
            return False
        try:
            self.transport.write(data, address)
        except OSError:
            return False
        return True

    def hasten(self, urgent: bool) -> None:
        """Count a reason to read at once what comes, or one that has gone."""
        self._urgent += 1 if urgent else -1
        if (hasten := getattr(self.transport, "hasten", None)) is not None:
            hasten(self._urgent > 0)

    def forget(self, link: UdpLink) -> bool:
        """Drop a link; return False when it was dropped already."""
        if self._links.get(link.address) is not link:
            return False
        del self._links[link.address]
        return True

    def stopProtocol(self) -> None:
        """Close all links, since the port is closed."""
        for link in list(self._links.values()):
            self._links.pop(link.address, None)
            link.connection.closed(SHUTDOWN)
