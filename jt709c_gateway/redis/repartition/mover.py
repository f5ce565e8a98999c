"""Moves all keys of a stopped fleet, step by step (docs/partitions.rst).

The old keys are copied under other names, and the copies compared with them. Until then nothing of the old
keys has changed. Then the old ones are deleted, and the copies get their names. A record says how far the
move is, so it goes on after an interruption at any place.
"""

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.redis.repartition.common import CommonKeys, InvalidCommands, NamedAreas
from jt709c_gateway.redis.repartition.move import LEASE, Move, Phase, stored_move
from jt709c_gateway.redis.repartition.names import FATES, Fate, Name, fixed_text
from jt709c_gateway.redis.repartition.split import SplitKey
from jt709c_gateway.redis.repartition.stores import MoveError, Place, Store
from jt709c_gateway.redis.repartition.streams import SplitStream
from jt709c_gateway.redis.repartition.survey import Survey, check_free, check_gateways, is_done, survey
from jt709c_gateway.redis.repartition.switch import Switch
from jt709c_gateway.redis.repartition.whole import WholeKeys

#: Seconds after the markers are written until a gateway that had looked before has registered.
SETTLE: Final = 2.0
#: Parts of `LEASE` after which it is renewed.
_RENEWED: Final = 4
_FIXED_SPLIT: Final = ("devices", "histories", "deadlines", "recent_commands", "imei", "allowed", "labels")


class Teller:
    """Hears of the progress of a move."""

    def begin(self, what: str, total: int | None = None) -> None:
        """A step begins; `total` is the number of keys, if it is known."""

    def handled(self, count: int) -> None:
        """So many keys, elements or entries were handled in this step."""


@define(eq=False)
class Mover:
    """Moves the keys from one store to another. Calls fail with MoveError and txredisapi's errors."""

    reactor: Any
    before: Store
    after: Store
    teller: Teller = field(factory=Teller)
    leave_unknown: bool = False
    settle: float = SETTLE
    _token: str = field(factory=lambda: secrets.token_hex(8), init=False)
    _move: Move | None = field(default=None, init=False)

    @property
    def _first(self) -> Place:
        return self.before.places[0]

    async def plan(self) -> Survey:
        """Check whether the move could begin or go on, and count the keys; writes nothing."""
        found = await stored_move(self.before, self.after)
        if found is None and await is_done(self.before, self.after):
            return Survey()
        await check_gateways(self.before)
        return await self._look(found)

    async def run(self) -> str:
        """Move the keys, or go on with a move that was interrupted; return what was done, in one line."""
        return await self._leased(self._run)

    async def abandon(self) -> str:
        """Delete the copies and let gateways start as before; return what was done, in one line."""
        return await self._leased(self._abandon)

    async def _leased(self, work: Callable[[], Awaitable[str]]) -> str:
        key, renewing = self._first.ours.lease, task.LoopingCall(self._renew)
        renewing.clock = self.reactor
        limit = self.reactor.seconds() + 1.2 * LEASE / 1000
        while await self._first.call("SET", key, self._token, "NX", "PX", LEASE) is None:
            if self.reactor.seconds() > limit:
                raise MoveError("another process moves these keys")
            self.teller.begin("waiting for another process that moves these keys, or has died just now")
            await task.deferLater(self.reactor, 1.0, lambda: None)
        renewing.start(LEASE / 1000 / _RENEWED, now=False).addErrback(lambda _: self._lose())
        try:
            return await work()
        finally:
            if renewing.running:
                renewing.stop()
            if await self._first.call("GET", key) == self._token.encode():
                await self._first.call("DEL", key)

    async def _renew_once(self) -> None:
        key = self._first.ours.lease
        if await self._first.call("GET", key) != self._token.encode():
            self._lose()
            return
        await self._first.call("SET", key, self._token, "PX", LEASE)

    def _renew(self) -> "defer.Deferred[None]":
        return defer.Deferred.fromCoroutine(self._renew_once())

    def _lose(self) -> None:
        if self._move is not None:
            self._move.lost = True

    async def _look(self, found: Move | None) -> Survey:
        counted = await survey(self.before)
        if found is None and not self.leave_unknown:
            counted.check()
        if found is None:
            await check_free(self.before, self.after)
        return counted

    async def _run(self) -> str:
        found = await stored_move(self.before, self.after)
        if found is None and await is_done(self.before, self.after):
            return await self._collect()
        resumed = found is not None
        if found is not None and found.phase is Phase.ABANDON:
            return await self._give_up(found)
        move = self._use(found or Move(self.before, self.after, secrets.token_hex(8)))
        if move.phase in (Phase.BEGIN, Phase.COPY, Phase.VERIFY):
            await self._first_half(move, found)
        elif move.phase is not Phase.COLLECT:
            await move.set_phase(move.phase)
        return await self._second_half(move, resumed)

    def _use(self, move: Move) -> Move:
        self._move = move
        move.tell = self.teller.handled
        return move

    async def _first_half(self, move: Move, found: Move | None) -> None:
        """Copy and compare; the old keys are not changed."""
        await check_gateways(self.before)
        self.teller.begin("counting the keys")
        counted = await self._look(found)
        if move.phase is Phase.BEGIN:
            await move.begin(self.before.servers != self.after.servers)
        await task.deferLater(self.reactor, self.settle, lambda: None)
        await check_gateways(self.before)
        # Of an interrupted comparison, too, everything is copied that is missing.
        await move.set_phase(Phase.COPY)
        await self._copy(move, counted, resumed=found is not None)
        await move.set_phase(Phase.VERIFY)
        try:
            await self._compare(move, counted)
        except MoveError:
            await move.forget_parts()
            raise
        await check_gateways(self.before)
        await move.set_phase(Phase.DELETE)

    def _split_keys(self, counted: Survey) -> list[Name]:
        names = {Name(kind, b"", fixed_text(kind)) for kind in _FIXED_SPLIT} | counted.split
        return sorted(names, key=lambda name: name.text)

    async def _copy(self, move: Move, counted: Survey, resumed: bool) -> None:
        whole = WholeKeys(move, resumed)
        self.teller.begin("copying keys", counted.whole)
        for place in self.before.places:
            await move.part(f"whole:{place.number}", partial(whole.copy, place))
        self.teller.begin("dividing keys that all partitions have")
        for name in self._split_keys(counted):
            part = f"split:{name.text.decode('utf-8', 'backslashreplace')}"
            await move.part(part, SplitKey(move, name).copy)
        for kind in (kind for kind, fate in FATES.items() if fate is Fate.STREAM):
            await move.part(f"stream:{kind}", SplitStream(move, kind).copy)
        await move.part("invalid", InvalidCommands(move).copy)
        await move.part("common", CommonKeys(move).copy)
        await move.part("areas", NamedAreas(move).copy)

    async def _compare(self, move: Move, counted: Survey) -> None:
        whole = WholeKeys(move)
        self.teller.begin("comparing keys", counted.whole)
        for place in self.before.places:
            await whole.compare(place)
        for target in self.after.places:
            await whole.compare_back(target)
        whole.check_same()
        self.teller.begin("comparing what was divided")
        for name in self._split_keys(counted):
            await SplitKey(move, name).compare()
        for kind in (kind for kind, fate in FATES.items() if fate is Fate.STREAM):
            await SplitStream(move, kind).compare()
        await InvalidCommands(move).compare()
        await CommonKeys(move).compare()
        await NamedAreas(move).compare()

    async def _second_half(self, move: Move, resumed: bool) -> str:
        """Delete the old keys and give the copies their names; each step may be repeated."""
        switch = Switch(move)
        steps: tuple[tuple[Phase, str, Callable[[], Awaitable[None]], Phase], ...] = (
            (Phase.DELETE, "deleting the old keys", switch.delete, Phase.RENAME),
            (Phase.RENAME, "naming the new ones", switch.rename, Phase.PASS_ON),
            (Phase.PASS_ON, "passing on waiting commands", switch.pass_on, Phase.FINISH),
        )
        for phase, what, work, following in steps:
            if move.phase is phase:
                self.teller.begin(what)
                await work()
                await move.set_phase(following)
        if move.phase is Phase.COLLECT:
            await switch.pass_on()
        else:
            # A replica that has taken over may have missed some.
            await switch.rename()
            await move.mark_ended()
        await move.end()
        where = f"in {self.after.count} partitions" if self.after.count > 1 else "in 1 partition"
        return f"the keys are {where} with the prefix {self.after.partitions.prefix}"

    async def _collect(self) -> str:
        """Pass on what was pushed to lists of old partitions after the move; gateways may run."""
        places = [one for one in self.before.places if not self.after.has(one)]
        waiting = sum([await one.call("LLEN", one.keys.commands) for one in places])
        if not waiting:
            return "the keys were moved before; there is nothing to do"
        move = self._use(Move(self.before, self.after, secrets.token_hex(8), Phase.COLLECT))
        await move.note(self.before.servers != self.after.servers)
        await self._second_half(move, resumed=False)
        return f"the keys were moved before; {waiting} commands were pushed to old lists since, and passed on"

    async def _abandon(self) -> str:
        found = await stored_move(self.before, self.after)
        if found is None:
            raise MoveError("no move has begun that could be given up")
        if found.phase not in (Phase.BEGIN, Phase.COPY, Phase.VERIFY, Phase.ABANDON):
            raise MoveError("the old keys are being deleted: this move can only be brought to its end")
        return await self._give_up(found)

    async def _give_up(self, found: Move) -> str:
        move = self._use(found)
        await move.set_phase(Phase.ABANDON)
        self.teller.begin("deleting the copies")
        await move.mark_as_before()
        await move.end()
        return f"the move is given up; gateways with --partitions {self.before.count} can start"
