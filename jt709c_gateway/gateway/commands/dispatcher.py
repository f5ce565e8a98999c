"""Gives commands to the executors of their devices (docs/commands.rst)."""

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.executor import CommandExecutor
from jt709c_gateway.gateway.sessions import Session


@define(eq=False)
class CommandDispatcher:
    """Keeps one `CommandExecutor` per device with commands, and has it execute them."""

    log = Logger()

    context: CommandContext
    executors: dict[str, CommandExecutor] = field(factory=dict, repr=False)

    @property
    def busy_count(self) -> int:
        """Number of devices with a command that is being written or awaits its answer."""
        return sum(executor.busy for executor in self.executors.values())

    # Sessions begin and end

    def attach(self, session: Session) -> None:
        """Execute the commands of a device that has connected."""
        self.executor(session.device).attach(session)

    def detach(self, session: Session, reason: str) -> None:
        """Execute no more commands over a session that has ended."""
        executor = self.executors.get(session.device)
        if executor is None or executor.session is not session:
            return
        after = self.context.gateway.sessions.get(session.device)
        if after is not None and after.connection.is_datagram and session.connection.is_datagram:
            # The device has a new UDP address: its command continues, and `attach` follows.
            return
        executor.detach()
        self.remove_if_idle(executor)

    def ensure_executor(self, session: Session) -> CommandExecutor:
        """The executor of a connected device, attached to its session, without a claim for commands."""
        executor = self.executor(session.device)
        if executor.session is not session:
            executor.session = session
            session.assign_executor(executor)
        return executor

    def executor(self, device: str) -> CommandExecutor:
        """The executor of a device, created when there is none."""
        executor = self.executors.get(device)
        if executor is None:
            executor = self.executors[device] = CommandExecutor(device, self.context, self.remove_if_idle)
        return executor

    def dispatch(self, device: str) -> None:
        """Claim the next command for a device, if it is connected here."""
        session = self.context.gateway.sessions.get(device)
        if session is None:
            return
        executor = self.executor(session.device)
        if executor.session is session:
            executor.schedule_next()
        else:
            executor.attach(session, arrived=False)

    def is_reachable(self, device: str) -> bool:
        """Whether a command for this device can be sent at once."""
        session = self.context.gateway.sessions.get(device)
        return session is not None and self.context.can_reach(session)

    def check_after_reconnect(self, device: str) -> None:
        """Have commands for a device claimed when Redis is back: one may have been accepted."""
        session = self.context.gateway.sessions.get(device)
        if session is None:
            return
        executor = self.ensure_executor(session)
        executor.waiting = executor.claimer.failed = True

    def remove_if_idle(self, executor: CommandExecutor) -> None:
        """Remove an idle executor, so that messages of its device are no longer matched to commands."""
        if executor.idle and self.executors.get(executor.device) is executor:
            if executor.session is not None:
                executor.session.assign_executor(None)
                executor.session = None
            del self.executors[executor.device]

    def resume(self) -> None:
        """Claim waiting commands for all executors, after Redis is back or sending is allowed."""
        for executor in list(self.executors.values()):
            executor.schedule_next()

    def retry(self) -> None:
        """Repeat claims that failed."""
        for executor in list(self.executors.values()):
            if executor.claimer.failed:
                executor.schedule_next()

    def tick(self) -> None:
        """Handle deadlines; call it several times a second."""
        now = self.context.now()
        self.context.rejection_log.log_suppressed()
        for executor in list(self.executors.values()):
            try:
                executor.tick(now)
            except Exception:
                self.log.failure("deadlines of the commands of {device} failed", device=executor.device)

    def clock_set(self, change: float) -> None:
        """Shift all deadlines by `change` seconds, after the clock behind `now` was set."""
        for executor in list(self.executors.values()):
            executor.clock_set(change)
