"""Keeps the labels of devices for their events (``--labels-in-events``); nothing is read for a frame."""

from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.gateway.periodic import PeriodicService
from jt709c_gateway.gateway.session_table import SessionTable
from jt709c_gateway.protocol.events import to_text
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.labels import Label, Labels
from jt709c_gateway.redis.scripts import Caller

#: Seconds between two looks for labels that were written.
EVERY: Final = 2.0
#: Looks after which all labels are read anew, for those that were written without telling.
_ALL_EVERY: Final = 300
#: Changes that are read at a time.
_AT_ONCE: Final = 1000
#: Seconds by which the time of a change may precede that of one that was seen.
_OVERLAP: Final = 2.0
#: Devices whose labels a gateway keeps for each partition.
_MOST: Final = 200_000
_DATA: Final = ',"data":'


def label_text(label: Label | None) -> str:
    """Return what a label adds to the JSON of an event: its name, group and plate; "" without any."""
    if label is None:
        return ""
    shown = Label(label.name, label.group, label.plate)
    return f',"label":{to_text(shown)}' if shown else ""


def labelled(event: str, text: str) -> str:
    """Return the JSON of an event with the text of a label, before its data.

    `commit_state.lua` expects the envelope's beginning and end as they are. No text in the envelope has the
    beginning of the data in it, since quotes are escaped.
    """
    head, data, rest = event.partition(_DATA)
    return f"{head}{text}{data}{rest}"


@define(eq=False)
class EventLabels:
    """The texts of labels by device, of all partitions; a session has that of its device."""

    sessions: SessionTable
    texts: dict[str, str] = field(factory=dict)

    def set(self, device: str, label: Label | None) -> None:
        """Keep the label of a device."""
        text = label_text(label)
        if text:
            self.texts[device] = text
        else:
            self.texts.pop(device, None)
        session = self.sessions.get(device)
        if session is not None and session.device == device:
            session.label = text


class LabelReader(PeriodicService):
    """Reads the labels of a partition, all at first and then those that were written."""

    log = Logger()

    def __init__(self, reactor: Any, caller: Caller, keys: Keys, labels: EventLabels) -> None:
        super().__init__(reactor, EVERY, self._step)
        self._caller = caller
        self._keys = keys
        self._labels = labels
        self._looks = 0
        self._since = 0.0
        #: What the last look has found.
        self._seen: list[bytes] = []
        self._known: set[str] = set()
        self._reading = False

    def _step(self) -> None:
        if not self._reading:
            self._reading = True
            reading = defer.Deferred.fromCoroutine(self._read())
            reading.addErrback(lambda failure: self.log.failure("reading labels failed", failure))

    async def _read(self) -> None:
        try:
            if self._looks % _ALL_EVERY == 0:
                await self._read_all()
            else:
                await self._read_changes()
            self._looks += 1
        except txredisapi.RedisError:
            # Away, or without the right, which its check tells: all are read when they can be.
            self._looks = 0
        finally:
            self._reading = False

    async def _read_all(self) -> None:
        self._since = max(self._since, await self._newest() - _OVERLAP)
        found = await Labels(self._caller, self._keys).all()
        for device in self._known - found.keys():
            self._labels.set(device, None)
        self._known = set()
        for device, label in found.items():
            self._keep(device, label)

    async def _read_changes(self) -> None:
        after = f"({self._since!r}"
        limits = ("WITHSCORES", "LIMIT", 0, _AT_ONCE)
        flat = await self._caller.call("ZRANGEBYSCORE", self._keys.label_changes, after, "+inf", *limits)
        if flat == self._seen:
            return
        self._seen = flat
        devices = [one.decode("utf-8", "replace") for one in flat[::2]]
        for device, label in zip(devices, await Labels(self._caller, self._keys).read(devices), strict=True):
            self._keep(device, label)
        last = float(flat[-1]) if flat else self._since
        self._since = last if len(devices) == _AT_ONCE else max(self._since, last - _OVERLAP)

    async def _newest(self) -> float:
        asked = ("ZREVRANGEBYSCORE", self._keys.label_changes, "+inf", "-inf", "WITHSCORES", "LIMIT", 0, 1)
        flat = await self._caller.call(*asked)
        return float(flat[1]) if flat else 0.0

    def _keep(self, device: str, label: Label | None) -> None:
        if label is None:
            self._known.discard(device)
        elif device in self._known or len(self._known) < _MOST:
            self._known.add(device)
        else:
            return
        self._labels.set(device, label)
