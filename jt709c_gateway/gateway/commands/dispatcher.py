"""Commands on their way down to the locks, and the truth about what became of each (DESIGN.md §4)."""

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
from jt709c_gateway.redis.command_writes import UNSETTLED_TTL, Condition, RedisCommand
from jt709c_gateway.redis.errors import ErrorLog
from jt709c_gateway.util.clock import Clock

_UNSETTLED: Final = frozenset({CommandState.UNCONFIRMED, CommandState.UNCERTAIN})


async def _nothing() -> None:
    """Stands in for renewing a lease that doesn't end."""


@define(eq=False)
class CommandDispatcher:
    """Has commands carried out at the locks' desks, and publishes every step."""

    log = Logger()

    gateway: Gateway
    store: CommandStore
    profiles: ProfileRegistry
    limits: Limits = field(factory=Limits)
    udp_window: float = 30.0
    #: For unlock commands that bring no password.
    static_password: str | None = field(default=None, repr=False)
    #: Which commands may be given, and written.
    authority: CommandAuthorizer = field(factory=CommandAuthorizer)
    desks: dict[str, CommandExecutor] = field(factory=dict, repr=False)
    #: Whether commands may be begun; not before our name is ours alone, nor while stopping.
    sending: bool = True
    #: The commands that Redis has in our hands, as far as we have heard from it: id -> token of the claim.
    held: dict[str, int] = field(factory=dict, repr=False)
    #: Whether no other gateway can take us for dead, and how to say that we live.
    leased: Callable[[], bool] = lambda: True
    renew: Callable[[], Awaitable[None]] = _nothing

    #: What commands that open a lock are written to over UDP.
    udp_commands: UdpCommands = UdpCommands.CONFIRMED
    proving: AddressProof = field(init=False, repr=False)
    refusals: ErrorLog = field(init=False, repr=False)
    #: Lines about commands that are no good.
    mistakes: LogLimiter = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.refusals = ErrorLog(self.gateway.clock)
        self.mistakes = LogLimiter(self.gateway.clock, "complaints about commands")
        self.proving = AddressProof(self, self.udp_commands)
        self.gateway.on_online = self._online
        self.gateway.on_offline = self._offline
        self.gateway.on_named = self.serve

    @property
    def clock(self) -> Clock:
        """The gateway's monotonic clock."""
        return self.gateway.clock

    def is_held(self, command_id: str) -> bool:
        """Whether Redis has a command in our hands, as far as we have heard from it."""
        return command_id in self.held

    @property
    def under_way(self) -> int:
        """How many locks have a command that is being written or awaits its answer."""
        return sum(desk.busy for desk in self.desks.values())

    def now(self) -> float:
        """Epoch seconds."""
        return self.gateway.wall().timestamp()

    # Locks come and go

    def _online(self, session: Session) -> None:
        self.desk(session.device).attach(session)

    def _offline(self, session: Session, reason: str) -> None:
        desk = session.desk
        if desk is None or desk.session is not session:
            return
        after = self.gateway.sessions.get(session.device)
        if after is not None and after.conversation.is_datagram and session.conversation.is_datagram:
            # Another address behind the same lock: its command goes on, and `_online` follows.
            return
        desk.detach()
        self.tidy(desk)

    def seat(self, session: Session) -> CommandExecutor:
        """The desk of a lock that is there, without looking for its commands; to be kicked or tidied."""
        desk = self.desk(session.device)
        if desk.session is not session:
            desk.session, session.desk = session, desk
        return desk

    def desk(self, device: str) -> CommandExecutor:
        """The desk of a lock; to be attached, kicked or tidied."""
        desk = self.desks.get(device)
        if desk is None:
            desk = self.desks[device] = CommandExecutor(device, self)
        return desk

    def serve(self, device: str) -> None:
        """There may be something new for a lock: look, if it is here."""
        session = self.gateway.sessions.get(device)
        if session is None:
            return
        desk = self.desk(session.device)
        if desk.session is session:
            desk.kick()
        else:
            desk.attach(session, arrived=False)

    def is_reachable(self, device: str) -> bool:
        """Whether a command for this lock can be written at once."""
        session = self.gateway.sessions.get(device)
        if session is None:
            return False
        return not session.conversation.is_datagram or self.heard_lately(session)

    def heard_lately(self, session: Session) -> bool:
        """Whether a datagram would still find its way to a lock."""
        return self.clock.seconds() - session.last_heard <= self.udp_window

    def look_later(self, device: str) -> None:
        """A command for a lock may have come in; look for it when Redis is back."""
        session = self.gateway.sessions.get(device)
        if session is None:
            return
        desk = self.seat(session)
        desk.waiting = desk.failed = True

    def tidy(self, desk: CommandExecutor) -> None:
        """Let go of a desk that has nothing to do; its lock then costs nothing more per message."""
        if desk.idle and self.desks.get(desk.device) is desk:
            if desk.session is not None:
                desk.session.desk = None
            del self.desks[desk.device]

    def resume(self) -> None:
        """Redis is back, or we may send: look for what waits."""
        for desk in list(self.desks.values()):
            desk.kick()

    def retry(self) -> None:
        """Look again where Redis refused to answer."""
        for desk in list(self.desks.values()):
            if desk.failed:
                desk.kick()

    def tick(self) -> None:
        """Time has passed; to be called several times a second."""
        now = self.now()
        self.mistakes.sum_up()
        for desk in list(self.desks.values()):
            try:
                desk.tick(now)
            except Exception:
                self.log.failure("the commands of {device} could not be looked after", device=desk.device)

    def clock_set(self, change: float) -> None:
        """The clock that `now` goes by was set by so many seconds: what has been waited for is kept."""
        for desk in list(self.desks.values()):
            desk.clock_set(change)

    # Checking and restoring

    def check(self, command: Command, session: Session, claim: Claim) -> CheckedCommand | None:
        """The command in the form that this lock understands; InvalidOrder where it understands none.

        None while it is not known yet which dialect it speaks.
        """
        profile = self.profiles.pick(session.device, session.speaks(claim.dialect), claim.firmware)
        return None if profile is None else self.profiles.validate(command, profile)

    def supplied(self, claim: Claim) -> dict[str, str]:
        """What the gateway knows that a command may leave out, by the names profiles have for it."""
        known = {"static_password": self.static_password, "dynamic_password": claim.dynamic_password}
        return {name: value for name, value in known.items() if value is not None}

    def restore(self, record: StoredRecord, command: Command | None = None) -> CommandExecution:
        """A command from its record. Without `command` its secrets are masked: it can't be written then.

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

    def watched(self, record: StoredRecord) -> CommandExecution | None:
        """A command whose fate a report of its lock may settle; None when it is no such command."""
        try:
            run = self.restore(record)
        except ValueError as error:
            self.log.error("a stored command can't be read: {reason}", reason=str(error))
            return None
        return run if run.confirmable else None

    def is_stale(self, run: CommandExecution, now: float) -> bool:
        """Whether a command has ended so long ago that nothing will settle it any more."""
        return run.ended and (run.writing_at is None or now - run.writing_at > UNSETTLED_TTL)

    async def is_recorded(self, run: CommandExecution) -> bool | None:
        """Whether Redis has recorded that a command of ours is about to be written; None when it isn't ours.

        Asked after our lease was renewed, so that the answer holds for as long as that does.
        """
        await self.renew()
        found = await self.store.ownership(run.command.id)
        if not self._is_claim(run.command.id, found.holder, found.token) or found.state in ENDED:
            return None
        return found.attempts == run.attempts

    def _is_claim(self, command_id: str, holder: str, token: int) -> bool:
        return holder == self.store.holder and self.held.get(command_id) == token

    def take(self, command_id: str, record: StoredRecord) -> None:
        """A command came into our hands, and its record says by which claim."""
        self.held[command_id] = int(record.get("token") or 0)

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
        """Have the transitions of a step stored and announced, in order; `then` follows the last of them.

        `then` is told whether that was done: Redis refuses what comes from a claim that has ended. `local` is
        for a command that no lock hears of: it has no record before its end. `writing` says that bytes are to
        follow: nobody may have recorded that for this write before.
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
        """What has to hold of a command as Redis takes a step of it."""
        store, command_id = self.store, run.command.id
        if local:
            return store.unknown_condition(command_id)
        if transition.state is CommandState.CONFIRMED:
            return store.evidence_condition("evidence", command_id)
        if transition.state is CommandState.UNCERTAIN and not transition.announce:
            return store.evidence_condition("answer", command_id)
        # What isn't ours has no token that could fit.
        token = self.held.get(command_id, -1)
        return store.held_condition(command_id, token, run.attempts - 1 if writing else None)

    def _record_writes(self, run: CommandExecution, transition: Transition) -> list[RedisCommand]:
        command = run.command
        commands = self.store.record_writes(command.id, to_hash(transition.fields))
        if transition.fields["ended_at"] is not None:
            commands += self.store.release_writes(command.id)
        if run.spec is not None and run.spec.evidence is not None and run.attempts:
            # From the moment it may be out: the lock may go elsewhere before it answers, and be opened there.
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
        token = self.held.get(command.id)
        public = {name: transition.fields[name] for name in PUBLIC_FIELDS}
        ended = transition.fields["ended_at"] is not None
        if ended and transition.announce:
            commands = commands + self.reply_writes(command.reply_to, public)

        def committed(written: bool) -> None:
            if written and transition.announce:
                self.gateway.counters.commands[transition.state] += 1
            if ended and self.held.get(command.id) == token:
                self.held.pop(command.id, None)
            if ended and run.attempts and self.gateway.sessions.get(command.device) is None:
                self.notify_owner(command.device)
            if not written and (then is None or condition[0] == "unknown"):
                self._refused(run, commands, condition, session, then)
            elif then is not None:
                then(written)

        # What has seen it is the lock's newest session, or it counts for nothing.
        session = (
            self.gateway.sessions.get(command.device) if transition.state is CommandState.CONFIRMED else None
        )
        event = public if transition.announce else None
        self.submit(command.device, event, commands, committed, condition, session)

    def reply_writes(self, name: str | None, public: dict[str, Any]) -> list[RedisCommand]:
        """Push an outcome to whoever asked for it."""
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
        """Have commands carried out and, if there is one, a `command` event published, all or nothing.

        Nothing unless `condition` holds, of those in `commit_conditions.lua`, and `seen_in` is the lock's
        newest session.
        """
        packed = []
        if public is not None:
            session = self.gateway.sessions.get(device)
            packed.append((KIND_COMMAND, self.gateway.encode(device, KIND_COMMAND, public, session)))
        token = None if seen_in is None else seen_in.token
        content = (device, None, "", 0.0, packed, None, None, commands, condition, token)
        self.gateway.committer.submit(content, then=then)

    def after_commit(self, device: str, then: Callable[[bool], None]) -> None:
        """Call back when Redis has all that was submitted up to now."""
        self.submit(device, None, [], then)

    def committed(self, device: str) -> "defer.Deferred[bool]":
        """`after_commit` for coroutines."""
        done: defer.Deferred[bool] = defer.Deferred()
        self.after_commit(device, done.callback)
        return done

    def requeue(self, run: CommandExecution) -> None:
        """Put a command back to the head of its lock's queue."""
        command = run.command
        payload = to_queue_entry(command).decode()
        commands = self.store.requeue_writes(
            command.id, command.device, payload, command.created_at + command.ttl
        )
        token = self.held.get(command.id, -1)

        def requeued(written: bool) -> None:
            if self.held.get(command.id) == token:
                del self.held[command.id]
            if self.gateway.sessions.get(command.device) is None:
                self.notify_owner(command.device)
            else:
                self.serve(command.device)

        self.submit(command.device, None, commands, requeued, self.store.requeue_condition(command.id, token))

    def release(self, run: CommandExecution) -> None:
        """Let go of a command that has ended already."""
        command_id = run.command.id

        def released(written: bool) -> None:
            self.held.pop(command_id, None)

        self.submit(run.command.device, None, self.store.release_writes(command_id), released)

    def _refused(
        self,
        run: CommandExecution,
        commands: list[RedisCommand],
        condition: Condition,
        seen_in: Session | None,
        then: Callable[[bool], None] | None,
    ) -> None:
        """Try once more to store a step, without its event, and give the command up where that fails too.

        Either the command isn't ours any more, and whoever has it tells of it. Or its event could not be
        written, since the history of its device is of another type, say: others rely on record and reply.
        """

        def tried(written: bool) -> None:
            if not written and (desk := self.desks.get(run.command.device)) is not None:
                desk.drop(run)
            if then is not None:
                then(written)

        self.submit(run.command.device, None, commands, tried, condition, seen_in)

    def notify_owner(self, device: str) -> None:
        """The lock may be at another gateway by now, which is to look what there is for it."""
        defer.Deferred.fromCoroutine(self._tell(device)).addErrback(
            lambda failure: self.log.failure("another gateway could not be told", failure)
        )

    async def _tell(self, device: str) -> None:
        try:
            await self.store.notify_owner(device)
        except txredisapi.RedisError as error:
            self.log.debug("another gateway could not be told: {reason}", reason=str(error))

    def count_wrong_passwords(self, run: CommandExecution, answer: Answer) -> None:
        """Keep the number of wrong passwords in a row that commands have shown to a lock."""
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
