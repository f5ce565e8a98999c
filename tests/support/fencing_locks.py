"""A lock that moves between gateways and sends over two connections at once."""

import itertools
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol import jt709
from tests.support.command_bench import START
from tests.support.commands import UNLOCKED, FakeLock, lock_event
from tests.support.committer import FakeLink
from tests.support.fencing_lines import Gateway
from tests.vectors import MOMENT, location

_MOST_LINKS: Final = 2
_ANSWER: Final = b"\x80\x01"


@define(eq=False)
class Report:
    """A location report, identified by its place."""

    data: bytes
    serial: bytes
    place: int
    answered: bool = False


@define(eq=False)
class Place:
    """One connection, and how much of what was written over it has been read."""

    gateway: Gateway
    link: FakeLink
    seen: int = 0
    done: int = 0


@define(eq=False)
class Unit:
    """One lock."""

    device: str
    places: list[Place] = field(factory=list)
    #: All connections that it ever had.
    all_places: list[Place] = field(factory=list)
    reports: dict[bytes, Report] = field(factory=dict)
    #: Bytes written for commands, over any connection.
    written: list[bytes] = field(factory=list)
    #: Commands that it has not handled yet.
    unheeded: list[bytes] = field(factory=list)
    body: FakeLock = field(init=False)
    _numbers: "itertools.count[int]" = field(factory=lambda: itertools.count(1))

    def __attrs_post_init__(self) -> None:
        self.body = FakeLock(self.device)

    def connect(self, gateway: Gateway, now: float, keeping: bool) -> None:
        """Connect to a gateway; with `keeping`, earlier connections stay, up to `_MOST_LINKS` in all."""
        while self.places and (not keeping or len(self.places) >= _MOST_LINKS):
            self.hang_up(0)
        link = gateway.link(peer=f"192.0.2.1:{40000 + len(self.all_places)}")
        self.places.append(Place(gateway, link))
        self.all_places.append(self.places[-1])
        self.report(now)

    def hang_up(self, index: int = -1) -> None:
        """Close a connection, if there is one."""
        if self.places:
            place = self.places.pop(index)
            place.gateway.hang_up(place.link)

    def cut_off(self, gateway: Gateway) -> None:
        """A gateway has ended: drop the connections to it."""
        self.places = [one for one in self.places if one.gateway is not gateway]

    def say(self, data: bytes, index: int = -1) -> None:
        """Send something over one of its connections."""
        if self.places:
            place = self.places[index % len(self.places)]
            place.gateway.receive(place.link, data)

    def report(self, now: float, items: bytes = b"", status: int = jt709.STATUS_FIX, index: int = -1) -> None:
        """Report its position and events, at a place used only once."""
        number = next(self._numbers)
        moment = MOMENT.fromtimestamp(int(START + now), MOMENT.tzinfo)
        at = {"latitude": number / 1000, "longitude": 10.0, "status": status, "time": moment}
        data = self.body.frame(0x0200, location(items, **at))
        serial = self.body._serial.to_bytes(2, "big")
        self.reports[serial] = Report(data, serial, number)
        self.say(data, index)

    def report_again(self) -> None:
        """Send unanswered reports once more, as a lock does."""
        for report in self.reports.values():
            if not report.answered:
                self.say(report.data)

    def open(self, now: float, index: int = -1) -> None:
        """Open and close, and report both."""
        self.report(now, lock_event(), UNLOCKED, index)
        self.report(now, index=index)

    def collect(self) -> None:
        """Read what has been written since the last call."""
        for place in self.all_places:
            new, place.seen = place.link.sent[place.seen :], len(place.link.sent)
            for data in new:
                plain = data[1:-1].replace(b"\x7d\x02", b"\x7e").replace(b"\x7d\x01", b"\x7d")
                if data[:1] == b"\x7e" and plain[:2] == _ANSWER:
                    report = self.reports.get(plain[12:14])
                    if report is not None and plain[14:16] == b"\x02\x00" and plain[16] == 0:
                        report.answered = True
                elif data[:1] == b"(" or plain[:1] == b"\x82":
                    self.written.append(data)
                    if place in self.places:
                        self.unheeded.append(data)

    def answer(self, how: str, now: float, index: int = -1) -> None:
        """Answer the oldest command."""
        if not self.unheeded:
            return
        data = self.unheeded.pop(0)
        if data[:1] != b"(":
            if how != "nothing":
                report = location(latitude=0.0, longitude=10.0, status=0)
                self.say(self.body.frame(0x0201, data[11:13] + report), index)
            return
        head, _, rest = data[1:-1].decode().partition(",ELOCK,")
        words = {"yes": "1", "no": "0", "strange": "strange"}
        if how in words:
            self.say(f"({head},ELOCK,{rest[0]},{words[how]})".encode(), index)
