"""Gives commands to the executors of their devices and publishes every step (docs/commands.rst)."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.catalogue import LOCAL_COMMANDS
from jt709c_gateway.commands.lifecycle import CommandExecution, Step, Transition
from jt709c_gateway.commands.model import ENDED, Command, CommandState
from jt709c_gateway.commands.profiles import CheckedCommand, ProfileRegistry
from jt709c_gateway.commands.record import Limits
from jt709c_gateway.commands.replies import Answer
from jt709c_gateway.commands.serialization import PUBLIC_FIELDS, to_hash, to_queue_entry
from jt709c_gateway.gateway.commands.address_proof import AddressProof, UdpCommands
from jt709c_gateway.gateway.commands.authorization import CommandAuthorizer
from jt709c_gateway.gateway.commands.executor import CommandExecutor
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.log_limit import LogLimiter
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol.events import KIND_COMMAND, to_text
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.command_store_types import Claim
from jt709c_gateway.redis.command_store_types import Record as StoredRecord
from jt709c_gateway.redis.command_writes import UNSETTLED_TTL
from jt709c_gateway.redis.commit_records import (
    Condition,
    EventsRecord,
    PublishedEvent,
    RedisCommand,
    UnknownCondition,
)
from jt709c_gateway.redis.errors import ErrorLog
from jt709c_gateway.util.clock import Clock

_UNSETTLED: Final = frozenset({CommandState.UNCONFIRMED, CommandState.UNCERTAIN})


async def _nothing() -> None:
    """Renew nothing: the default for a lease that does not end."""


@define(eq=False)
class CommandDispatcher:
    """Keeps one `CommandExecutor` per device with commands, and commits and publishes their steps."""

    log = Logger()

    gateway: Gateway
    store: CommandStore
    profiles: ProfileRegistry
    limits: Limits = field(factory=Limits)
    udp_window: float = 30.0
    #: Password for unlock commands without one.
    static_password: str | None = field(default=None, repr=False)
    #: Decides which commands may be accepted and written.
    authorizer: CommandAuthorizer = field(factory=CommandAuthorizer)
    executors: dict[str, CommandExecutor] = field(factory=dict, repr=False)
    #: Whether commands may be started; false until this run owns the gateway's name, and while stopping.
    sending: bool = True
    #: Commands claimed by this gateway, as far as Redis has replied: id -> token of the claim.
    claims: dict[str, int] = field(factory=dict, repr=False)
    #: Whether the lease holds, so that no other gateway adopts our commands; and how to renew it.
    leased: Callable[[], bool] = lambda: True
    renew: Callable[[], Awaitable[None]] = _nothing

    #: When commands that open a lock may be sent over UDP.
    udp_commands: UdpCommands = UdpCommands.CONFIRMED
    address_proof: AddressProof = field(init=False, repr=False)
    refusals: ErrorLog = field(init=False, repr=False)
    #: Limits log lines about rejected commands.
    rejection_log: LogLimiter = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.refusals = ErrorLog(self.gateway.clock)
        self.rejection_log = LogLimiter(self.gateway.clock, "complaints about commands")
        self.address_proof = AddressProof(self, self.udp_commands)
        self.gateway.callbacks.online = self._online
        self.gateway.callbacks.offline = self._offline
        self.gateway.callbacks.named = self.dispatch

    @property
    def clock(self) -> Clock:
        """The gateway's monotonic clock."""
        return self.gateway.clock

    def is_held(self, command_id: str) -> bool:
        """Whether this gateway has claimed a command, as far as Redis has replied."""
        return command_id in self.claims

    @property
    def busy_count(self) -> int:
        """Number of devices with a command that is being written or awaits its answer."""
        return sum(executor.busy for executor in self.executors.values())

    def now(self) -> float:
        """Current time in epoch seconds."""
        return self.gateway.wall().timestamp()

    # Sessions begin and end

    def _online(self, session: Session) -> None:
        self.executor(session.device).attach(session)

    def _offline(self, session: Session, reason: str) -> None:
        executor = self.executors.get(session.device)
        if executor is None or executor.session is not session:
            return
        after = self.gateway.sessions.get(session.device)
        if after is not None and after.connection.is_datagram and session.connection.is_datagram:
            # The device has a new UDP address: its command continues, and `_online` follows.
            return
        executor.detach()
        self.remove_if_idle(executor)

    def ensure_executor(self, session: Session) -> CommandExecutor:
        """The executor of a connected device, attached to its session, without a claim for commands."""
        executor = self.executor(session.device)
        if executor.session is not session:
            executor.session, session.executor = session, executor
        return executor

    def executor(self, device: str) -> CommandExecutor:
        """The executor of a device, created when there is none."""
        executor = self.executors.get(device)
        if executor is None:
            executor = self.executors[device] = CommandExecutor(device, self)
        return executor

    def dispatch(self, device: str) -> None:
        """Claim the next command for a device, if it is connected here."""
        session = self.gateway.sessions.get(device)
        if session is None:
            return
        executor = self.executor(session.device)
        if executor.session is session:
            executor.schedule_next()
        else:
            executor.attach(session, arrived=False)

    def is_reachable(self, device: str) -> bool:
        """Whether a command for this device can be sent at once."""
        session = self.gateway.sessions.get(device)
        if session is None:
            return False
        return not session.connection.is_datagram or self.heard_recently(session)

    def heard_recently(self, session: Session) -> bool:
        """Whether the last datagram is recent enough for a reply to reach the device."""
        return self.clock.seconds() - session.last_heard <= self.udp_window

    def check_after_reconnect(self, device: str) -> None:
        """Have commands for a device claimed when Redis is back: one may have been accepted."""
        session = self.gateway.sessions.get(device)
        if session is None:
            return
        executor = self.ensure_executor(session)
        executor.waiting = executor.failed = True

    def remove_if_idle(self, executor: CommandExecutor) -> None:
        """Remove an idle executor, so that messages of its device are no longer matched to commands."""
        if executor.idle and self.executors.get(executor.device) is executor:
            if executor.session is not None:
                executor.session.executor = None
            del self.executors[executor.device]

    def resume(self) -> None:
        """Claim waiting commands for all executors, after Redis is back or sending is allowed."""
        for executor in list(self.executors.values()):
            executor.schedule_next()

    def retry(self) -> None:
        """Repeat claims that failed."""
        for executor in list(self.executors.values()):
            if executor.failed:
                executor.schedule_next()

    def tick(self) -> None:
        """Handle deadlines; call it several times a second."""
        now = self.now()
        self.rejection_log.log_suppressed()
        for executor in list(self.executors.values()):
            try:
                executor.tick(now)
            except Exception:
                self.log.failure("deadlines of the commands of {device} failed", device=executor.device)

    def clock_set(self, change: float) -> None:
        """Shift all deadlines by `change` seconds, after the clock behind `now` was set."""
        for executor in list(self.executors.values()):
            executor.clock_set(change)

    # Checking and restoring

    def check(self, command: Command, session: Session, claim: Claim) -> CheckedCommand | None:
        """Validate a command for its device's profile; raises InvalidCommand when it does not fit.

        None while the device's dialect is unknown.
        """
        profile = self.profiles.pick(session.device, session.dialect_or_guess(claim.dialect), claim.firmware)
        return None if profile is None else self.profiles.validate(command, profile)

    def gateway_parameters(self, claim: Claim) -> dict[str, str]:
        """Values that the gateway supplies to a command, by the names that profiles use."""
        known = {"static_password": self.static_password, "dynamic_password": claim.dynamic_password}
        return {name: value for name, value in known.items() if value is not None}

    def restore(self, record: StoredRecord, command: Command | None = None) -> CommandExecution:
        """Restore a command from its record; without `command` its secrets are masked, so it is not writable.

        Raises ValueError for a record that can't be read.
        """
        if command is not None and not record.get("state"):
            return CommandExecution(command, None, self.limits, self.profiles.secret_names(command.name))
        run = CommandExecution.restore(record, None, self.limits, command=command)
        if run.profile is not None:
            spec = self.profiles.spec_of(run.profile, run.command.name, run.command.params)
            run = CommandExecution.restore(record, spec, self.limits, command=command)
        elif run.command.name not in LOCAL_COMMANDS:
            run.secret_names = self.profiles.secret_names(run.command.name)
        else:
            run.secret_names = frozenset()
        return run

    def restore_confirmable(self, record: StoredRecord) -> CommandExecution | None:
        """Restore a command that a report can confirm; None when the record is of another kind."""
        try:
            run = self.restore(record)
        except ValueError as error:
            self.log.error("a stored command can't be read: {reason}", reason=str(error))
            return None
        return run if run.confirmable else None

    def is_stale(self, run: CommandExecution, now: float) -> bool:
        """Whether a command ended too long ago to be confirmed."""
        return run.ended and (run.writing_at is None or now - run.writing_at > UNSETTLED_TTL)

    async def is_recorded(self, run: CommandExecution) -> bool | None:
        """Whether Redis has the `writing` record of a command; None when this gateway does not own it.

        The lease is renewed first, so that the reply is valid as long as the lease holds.
        """
        await self.renew()
        found = await self.store.ownership(run.command.id)
        if not self._is_claim(run.command.id, found.holder, found.token) or found.state in ENDED:
            return None
        return found.attempts == run.attempts

    def _is_claim(self, command_id: str, holder: str, token: int) -> bool:
        return holder == self.store.holder and self.claims.get(command_id) == token

    def record_claim(self, command_id: str, record: StoredRecord) -> None:
        """Note that this gateway has claimed a command, with the claim's token from its record."""
        self.claims[command_id] = int(record.get("token") or 0)

    # Publishing

    def publish(
        self,
        run: CommandExecution,
        step: Step,
        then: Callable[[bool], None] | None = None,
        commands: list[RedisCommand] | None = None,
        *,
        local: bool = False,
        writing: bool = False,
    ) -> None:
        """Store and announce a step's transitions in order; calls `then` after the last one.

        `then` gets whether the last transition was stored: Redis refuses writes of a claim that has ended.
        `local` is for commands that are not sent to a device: they have no record before they end. `writing`
        says that bytes follow: Redis refuses a second `writing` record of the same attempt.
        """
        for transition in step.transitions:
            last = transition is step.transitions[-1]
            further = list(commands or []) if last else []
            if not local or transition.fields["ended_at"] is not None:
                further = self._record_writes(run, transition) + further
            condition = self._condition(run, transition, local, writing)
            self._announce(run, transition, then if last else None, further, condition)

    def _condition(
        self, run: CommandExecution, transition: Transition, local: bool, writing: bool
    ) -> Condition:
        """The condition under which Redis stores a transition."""
        store, command_id = self.store, run.command.id
        if local:
            return store.unknown_condition(command_id)
        if transition.state is CommandState.CONFIRMED:
            return store.evidence_condition("evidence", command_id)
        if transition.state is CommandState.UNCERTAIN and not transition.announce:
            return store.evidence_condition("answer", command_id)
        # A command that we have not claimed has no valid token.
        token = self.claims.get(command_id, -1)
        return store.held_condition(command_id, token, run.attempts - 1 if writing else None)

    def _record_writes(self, run: CommandExecution, transition: Transition) -> list[RedisCommand]:
        command = run.command
        commands = self.store.record_writes(command.id, to_hash(transition.fields))
        if transition.fields["ended_at"] is not None:
            commands += self.store.release_writes(command.id)
        if run.spec is not None and run.spec.evidence is not None and run.attempts:
            # As soon as its bytes may be sent: the device may move to another gateway before it answers.
            settled = transition.fields["ended_at"] is not None and transition.state not in _UNSETTLED
            written_at = None if settled else run.writing_at
            commands += self.store.unsettled_writes(command.device, command.id, written_at)
        return commands

    def _announce(
        self,
        run: CommandExecution,
        transition: Transition,
        then: Callable[[bool], None] | None,
        commands: list[RedisCommand],
        condition: Condition,
    ) -> None:
        command = run.command
        token = self.claims.get(command.id)
        public = {name: transition.fields[name] for name in PUBLIC_FIELDS}
        ended = transition.fields["ended_at"] is not None
        if ended and transition.announce:
            commands = commands + self.reply_writes(command.reply_to, public)

        def committed(written: bool) -> None:
            if written and transition.announce:
                self.gateway.counters.commands[transition.state] += 1
            if ended and self.claims.get(command.id) == token:
                self.claims.pop(command.id, None)
            if ended and run.attempts and self.gateway.sessions.get(command.device) is None:
                self.notify_owner(command.device)
            if not written and (then is None or isinstance(condition, UnknownCondition)):
                self._retry_without_event(run, commands, condition, session, then)
            elif then is not None:
                then(written)

        # Evidence counts only when it was seen in the device's newest session.
        session = (
            self.gateway.sessions.get(command.device) if transition.state is CommandState.CONFIRMED else None
        )
        event = public if transition.announce else None
        self.submit(command.device, event, commands, committed, condition, session)

    def reply_writes(self, name: str | None, public: dict[str, Any]) -> list[RedisCommand]:
        """Redis commands that push an outcome to the reply list `name`; none without a name."""
        return [] if name is None else self.store.reply_writes(name, to_text(public))

    def submit(
        self,
        device: str,
        public: dict[str, Any] | None,
        commands: list[RedisCommand],
        then: Callable[[bool], None] | None = None,
        condition: Condition | None = None,
        seen_in: Session | None = None,
    ) -> None:
        """Commit Redis commands and, with `public`, a `command` event; all or nothing.

        Nothing is committed unless `condition` (see `commit_conditions.lua`) holds and `seen_in` is the
        device's newest session.
        """
        events: list[PublishedEvent] = []
        if public is not None:
            session = self.gateway.sessions.get(device)
            events.append((KIND_COMMAND, self.gateway.events.encode(device, KIND_COMMAND, public, session)))
        token = None if seen_in is None else seen_in.token
        record = EventsRecord(
            device=device, events=events, commands=commands, condition=condition, token=token
        )
        self.gateway.committer.submit(record, then=then)

    def after_commit(self, device: str, then: Callable[[bool], None]) -> None:
        """Call `then` when everything submitted up to now is committed."""
        self.submit(device, None, [], then)

    def committed(self, device: str) -> "defer.Deferred[bool]":
        """Wait until everything submitted up to now is committed."""
        done: defer.Deferred[bool] = defer.Deferred()
        self.after_commit(device, done.callback)
        return done

    def requeue(self, run: CommandExecution) -> None:
        """Put a command back at the head of its device's queue."""
        command = run.command
        payload = to_queue_entry(command).decode()
        commands = self.store.requeue_writes(
            command.id, command.device, payload, command.created_at + command.ttl
        )
        token = self.claims.get(command.id, -1)

        def requeued(written: bool) -> None:
            if self.claims.get(command.id) == token:
                del self.claims[command.id]
            if self.gateway.sessions.get(command.device) is None:
                self.notify_owner(command.device)
            else:
                self.dispatch(command.device)

        self.submit(command.device, None, commands, requeued, self.store.requeue_condition(command.id, token))

    def release(self, run: CommandExecution) -> None:
        """Release the claim of a command that has ended."""
        command_id = run.command.id

        def released(written: bool) -> None:
            self.claims.pop(command_id, None)

        self.submit(run.command.device, None, self.store.release_writes(command_id), released)

    def _retry_without_event(
        self,
        run: CommandExecution,
        commands: list[RedisCommand],
        condition: Condition,
        seen_in: Session | None,
        then: Callable[[bool], None] | None,
    ) -> None:
        """Store a refused step again without its event; drop the command when that is refused too.

        Either another gateway owns the command and publishes it. Or the event could not be written, for
        example because the device's history key has another type: record and reply are stored all the same.
        """

        def retried(written: bool) -> None:
            if not written and (executor := self.executors.get(run.command.device)) is not None:
                executor.drop(run)
            if then is not None:
                then(written)

        self.submit(run.command.device, None, commands, retried, condition, seen_in)

    def notify_owner(self, device: str) -> None:
        """Notify the gateway that the device is connected to, so that it claims the device's commands."""
        defer.Deferred.fromCoroutine(self._notify_owner(device)).addErrback(
            lambda failure: self.log.failure("notifying another gateway failed", failure)
        )

    async def _notify_owner(self, device: str) -> None:
        try:
            await self.store.notify_owner(device)
        except txredisapi.RedisError as error:
            self.log.debug("no notice to the gateway of a device: {reason}", reason=str(error))

    def count_wrong_passwords(self, run: CommandExecution, answer: Answer) -> None:
        """Update the number of consecutive wrong passwords that commands have sent to a device."""
        if run.spec is None or not run.spec.shows_password:
            return
        device = run.command.device
        if answer.wrong_password:
            self.gateway.counters.wrong_passwords += 1
            commands: list[RedisCommand] = [("HINCRBY", self.store.keys.device(device), "wrong_passwords", 1)]
        elif lockout.next_count(1, run.spec, answer) == 0:
            commands = self.store.wrong_password_writes(device, 0)
        else:
            return
        self.submit(device, None, commands)
