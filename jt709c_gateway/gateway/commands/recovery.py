"""Recovers commands after crashes and outages, so that every command ends with an outcome."""

from collections.abc import Collection

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.commands.serialization import from_queue_entry
from jt709c_gateway.gateway.commands import rejections
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.executor import CommandExecutor
from jt709c_gateway.gateway.commands.restore import restore
from jt709c_gateway.redis.command_store_types import Record
from jt709c_gateway.redis.gateway_registry import SESSIONS_AT_ONCE


@define
class CommandRecovery:
    """Ends, continues or requeues commands that no running gateway keeps in memory."""

    log = Logger()

    dispatcher: CommandDispatcher
    context: CommandContext = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.context = self.dispatcher.context

    async def adopt(self, gateway: str, heartbeat: bytes = b"") -> int:
        """Adopt the commands claimed by a dead gateway; returns their number.

        `heartbeat` is the gateway's last one, when it is known to be dead in spite of it. Under our own name
        these are the commands of earlier runs.
        """
        count = 0
        while taken := await self.context.store.adopt(gateway, heartbeat):
            for payload, record in taken:
                self._recover(payload, record)
            count += len(taken)
        return count

    async def end_sessions(self, gateway: str, gone: bool = False) -> None:
        """Mark a dead gateway's devices offline, except those that have reconnected elsewhere."""
        context, cursor = self.context, None
        while cursor != "0":
            devices, cursor = await context.store.online_at(gateway, cursor or "0")
            for device in devices:
                context.gateway.lifecycle.mark_offline(device, gateway, gone)
            if devices:
                await context.publisher.committed(devices[-1])

    async def check_sessions(self, devices: Collection[str]) -> None:
        """End sessions that have moved to another gateway; store sessions again that Redis has lost."""
        gateway = self.context.gateway
        ours = [gateway.sessions.get(device) for device in devices]
        sessions = [session for session in ours if session is not None and session.stored]
        tokens = await self.context.store.tokens([session.device for session in sessions])
        for session, token in zip(sessions, tokens, strict=True):
            if gateway.sessions.get(session.device) is not session:
                continue
            if token is None:
                gateway.lifecycle.reassert_session(session)
            elif token != session.token:
                had_commands = session.executor is not None
                gateway.lifecycle.session_superseded(session)
                if had_commands:
                    self._notify_owner_when_settled(session.device)
        for device in devices:
            if (executor := self.dispatcher.executors.get(device)) is not None:
                await self._drop_migrated(executor)

    async def _drop_migrated(self, executor: CommandExecutor) -> None:
        """Forget commands that another gateway has adopted together with their device."""
        store, watched = self.context.store, executor.evidence.watched
        for run in [run for run in watched if not run.ended]:
            found = await store.ownership(run.command.id)
            if found.holder != store.holder and run in watched and not run.ended:
                executor.drop(run)

    def _notify_owner_when_settled(self, device: str) -> None:
        self.context.publisher.after_commit(
            device, lambda written: self.context.publisher.notify_owner(device)
        )

    async def reassert_sessions(self) -> None:
        """Store all our sessions again, after the lease had lapsed."""
        gateway = self.context.gateway
        sessions = [session for session in self.context.sessions if session.stored]
        for start in range(0, len(sessions), SESSIONS_AT_ONCE):
            for session in sessions[start : start + SESSIONS_AT_ONCE]:
                if gateway.sessions.get(session.device) is session:
                    gateway.lifecycle.reassert_session(session)
            await self.context.publisher.committed(sessions[start].device)

    async def reconcile(self) -> None:
        """Compare our claims with those in Redis, after replies may have been lost.

        A claim that only Redis has was made by a call whose reply was lost. A claim that only we have was
        adopted by another gateway after our lease had lapsed.
        """
        context, claims = self.context, self.context.claims.tokens
        ours = dict(claims)
        found = await context.store.in_hand()
        lost = {
            command_id
            for command_id, token in ours.items()
            if claims.get(command_id) == token
            and (command_id not in found or found[command_id].token != token)
        }
        for executor in list(self.dispatcher.executors.values()):
            for run in [run for run in (executor.current, *executor.evidence.watched) if run is not None]:
                if run.command.id in lost and not run.ended:
                    executor.drop(run)
        for command_id in lost:
            claims.pop(command_id, None)
        for command_id in found.keys() - claims.keys():
            record = await context.store.record(command_id)
            if record.get("holder") == context.store.holder:
                self._recover(found[command_id].command, record)

    def _recover(self, payload: bytes, record: Record) -> None:
        try:
            command = from_queue_entry(payload)
        except InvalidCommand as error:
            rejections.reject_unreadable(self.context, None, payload, record, error)
            return
        if self.context.claims.tokens.get(command.id) == int(record.get("token") or 0):
            return
        if not record.get("state"):
            # It is unknown whether it was written, so it must not be sent.
            self.log.error("command {id} no longer has a record; it is dropped", id=command.id)
            self.context.publisher.submit(command.device, None, self.context.store.forget_writes(command.id))
            return
        try:
            run = restore(self.context, record, command)
        except ValueError as error:
            self.log.error(
                "the record of command {id} can't be read: {reason}", id=command.id, reason=str(error)
            )
            return
        self.context.claims.add(command.id, record)
        self.dispatcher.executor(run.command.device).recover(run)
        self.dispatcher.dispatch(run.command.device)
