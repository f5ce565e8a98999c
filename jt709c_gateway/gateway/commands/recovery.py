"""What crashes, outages and sleeping locks leave behind: every command still ends in a stated outcome."""

from collections.abc import Collection

from attrs import define
from twisted.logger import Logger

from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.commands.serialization import from_queue_entry
from jt709c_gateway.gateway.commands import rejections
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store import SESSIONS_AT_ONCE
from jt709c_gateway.redis.command_store_types import Record


@define
class CommandRecovery:
    """Ends, goes on with, or gives back commands that nobody has in mind any more."""

    log = Logger()

    dispatcher: CommandDispatcher

    async def adopt(self, gateway: str, said: bytes = b"") -> int:
        """Settle what a dead gateway had in hand; gives how many commands that were.

        `said` is what its liveness says when it is known to be gone all the same. Under our own name these
        are the commands of earlier runs.
        """
        count = 0
        while taken := await self.dispatcher.store.adopt(gateway, said):
            for payload, record in taken:
                self._take_over(payload, record)
            count += len(taken)
        return count

    async def end_sessions(self, gateway: str, gone: bool = False) -> None:
        """Say offline for the locks that a dead gateway had, but for those that are somewhere by now."""
        dispatcher, cursor = self.dispatcher, None
        while cursor != "0":
            devices, cursor = await dispatcher.store.online_at(gateway, cursor or "0")
            for device in devices:
                dispatcher.gateway.presence.lost(device, gateway, gone)
            if devices:
                await dispatcher.committed(devices[-1])

    async def check_sessions(self, devices: Collection[str]) -> None:
        """Let go of sessions and commands that are elsewhere by now; affirm sessions that Redis has lost."""
        gateway = self.dispatcher.gateway
        ours = [gateway.sessions.get(device) for device in devices]
        sessions = [session for session in ours if session is not None and session.stored]
        tokens = await self.dispatcher.store.tokens([session.device for session in sessions])
        for session, token in zip(sessions, tokens, strict=True):
            if gateway.sessions.get(session.device) is not session:
                continue
            if token is None:
                gateway.presence.affirm(session)
            elif token != session.token:
                had_commands = session.desk is not None
                gateway.presence.moved_away(session)
                if had_commands:
                    self._tell_when_settled(session.device)
        for device in devices:
            if (desk := self.dispatcher.desks.get(device)) is not None:
                await desk.drop_moved()

    def _tell_when_settled(self, device: str) -> None:
        self.dispatcher.after_commit(device, lambda written: self.dispatcher.notify_owner(device))

    async def affirm_sessions(self) -> None:
        """Make sure of all our sessions, after we could be taken for dead."""
        gateway = self.dispatcher.gateway
        sessions: list[Session] = [session for session in gateway.sessions if session.stored]
        for start in range(0, len(sessions), SESSIONS_AT_ONCE):
            for session in sessions[start : start + SESSIONS_AT_ONCE]:
                if gateway.sessions.get(session.device) is session:
                    gateway.presence.affirm(session)
            await self.dispatcher.committed(sessions[start].device)

    async def reconcile(self) -> None:
        """Compare what is in our hands with what Redis says, after replies may have been lost.

        What it says and we don't know of was taken by a call whose reply was lost. What we have and it
        doesn't say was adopted by another gateway, which took us for dead.
        """
        dispatcher = self.dispatcher
        ours = dict(dispatcher.held)
        found = await dispatcher.store.in_hand()
        lost = {
            command_id
            for command_id, token in ours.items()
            if dispatcher.held.get(command_id) == token
            and (command_id not in found or found[command_id].token != token)
        }
        for desk in list(dispatcher.desks.values()):
            for run in [run for run in (desk.current, *desk.watched) if run is not None]:
                if run.command.id in lost and not run.ended:
                    desk.drop(run)
        for command_id in lost:
            dispatcher.held.pop(command_id, None)
        for command_id in found.keys() - dispatcher.held.keys():
            record = await dispatcher.store.record(command_id)
            if record.get("holder") == dispatcher.store.holder:
                self._take_over(found[command_id].command, record)

    def _take_over(self, payload: bytes, record: Record) -> None:
        try:
            command = from_queue_entry(payload)
        except InvalidCommand as error:
            rejections.cast_out(self.dispatcher, None, payload, record, error)
            return
        if self.dispatcher.held.get(command.id) == int(record.get("token") or 0):
            return
        if not record.get("state"):
            # Whether it was written is not known any more, so it can't be carried out.
            self.log.error("command {id} was left behind without a record; it is dropped", id=command.id)
            self.dispatcher.submit(command.device, None, self.dispatcher.store.forget_writes(command.id))
            return
        try:
            run = self.dispatcher.restore(record, command)
        except ValueError as error:
            self.log.error("a command left behind can't be read: {reason}", reason=str(error))
            return
        self.dispatcher.take(command.id, record)
        self.dispatcher.desk(run.command.device).take_over(run)
        self.dispatcher.serve(run.command.device)
