"""Notes the IMEIs of devices in the partitions of the IMEIs, where commands look them up."""

from collections.abc import Sequence
from itertools import islice
from typing import Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands.forwarding import forward_accepted
from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.commands.serialization import from_queue_entry
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.protocol.device_id import canonical
from jt709c_gateway.redis.command_store_types import NotOurs
from jt709c_gateway.redis.errors import is_state_of_server
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.transfers import Transfer

#: IMEIs that wait for their partition, at most; the oldest are forgotten first. A device reports its IMEI
#: again when it connects.
_MAX_PENDING: Final = 100_000
#: IMEIs noted at a time.
_AT_ONCE: Final = 100
#: Seconds before the next attempt, while a partition can't be reached.
_RETRY: Final = 2.0


@define(eq=False)
class ImeiIndex:
    """Notes IMEIs, and forwards the commands that wait under an IMEI to the device that has reported it.

    `contexts` has one for each partition, and `limit` is the number of IMEIs that a partition keeps.
    """

    log = Logger()

    partitions: Partitions
    contexts: Sequence[CommandContext]
    limit: int
    #: IMEI -> device, by the partition of the IMEI.
    _pending: list[dict[str, str]] = field(init=False, repr=False)
    _running: set[int] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._pending = [{} for _ in self.contexts]

    def note(self, imei: str, device: str) -> None:
        """Have an IMEI noted, unless it is in the partition of its device, where it was committed."""
        number = self.partitions.number_of(imei)
        if number == self.partitions.number(device):
            return
        pending = self._pending[number]
        if imei not in pending and len(pending) >= _MAX_PENDING:
            del pending[next(iter(pending))]
        pending[imei] = device
        self.flush(number)

    def flush(self, number: int) -> None:
        """Note what waits for a partition, unless that is under way."""
        if self._pending[number] and number not in self._running:
            self._running.add(number)
            defer.Deferred.fromCoroutine(self._flush(number)).addErrback(
                lambda failure: self.log.failure("noting IMEIs failed", failure)
            )

    async def _flush(self, number: int) -> None:
        pending, context = self._pending[number], self.contexts[number]
        try:
            while pending:
                for imei, device in list(islice(pending.items(), _AT_ONCE)):
                    await self._note(context, imei, device)
                    if pending.get(imei) == device:
                        del pending[imei]
        except (txredisapi.RedisError, NotOurs) as error:
            context.refusals.report("to note IMEIs", error)
            context.gateway.clock.callLater(_RETRY, self.flush, number)
        finally:
            self._running.discard(number)

    async def _note(self, context: CommandContext, imei: str, device: str) -> None:
        try:
            await context.store.note_imei(imei, device, self.limit)
            for command_id in await context.store.waiting_ids(canonical(imei)):
                await self._forward(context, imei, command_id, device)
        except txredisapi.ResponseError as error:
            if is_state_of_server(error):
                raise
            # For example a key of another type: it must not hold up other IMEIs.
            context.refusals.report("to note an IMEI", error)

    async def _forward(self, context: CommandContext, imei: str, command_id: str, device: str) -> None:
        """Move a command that waits under an IMEI to the partition of its device."""
        payload, record = await context.store.remove(command_id)
        if payload is None or context.routing is None:
            return
        store, claims = context.store, context.claims
        try:
            command = from_queue_entry(payload)
        except InvalidCommand:
            # Left for the recovery of claims, which ends what can't be read.
            return
        transfer = Transfer(
            at=context.now(),
            entry=forward_accepted(command, context.authorizer.seal(command)).decode(),
            to=self.partitions.number(device),
        )
        writes = [*store.forward_writes(command_id), *context.routing.store.writes(transfer)]
        # Else the comparison of claims with those in Redis would find a command that nobody has.
        claims.add(command_id, record)
        condition = store.held_condition(command_id, claims.token(command_id))

        def forwarded(written: bool) -> None:
            claims.discard(command_id)

        context.publisher.submit(canonical(imei), None, writes, forwarded, condition)
