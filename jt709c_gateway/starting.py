"""What a start has to say when it fails, and the start of the embedded server."""

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.redis.address import RedisAddress, client_endpoint
from jt709c_gateway.redis.embedded import EmbeddedServer, EmbeddedServerError
from jt709c_gateway.redis.tls import TlsFiles

_log = Logger()


def _tell(line: str) -> None:
    # Once twistd has begun its log, stderr leads there.
    if sys.__stderr__ is not None and sys.stderr is not sys.__stderr__:
        sys.__stderr__.write(f"{line}\n")


class StartError(SystemExit, Exception):
    """The gateway can't start: one line for the operator, and no traceback.

    An Exception as well, so that twistd in the background tells its parent and removes its pid file.
    """

    def __init__(self, message: object) -> None:
        super().__init__(f"jt709c-gateway: {message}")
        _tell(str(self))


def stop_for(reactor: Any, reason: str) -> None:
    """Stop for a reason that showed when the start was over, and nobody is there any more to raise to."""
    _log.critical("stopping: {reason}", reason=reason)
    _tell(f"jt709c-gateway: {reason}")

    def stop() -> None:
        # A signal may have been faster.
        if reactor.running:
            reactor.stop()

    reactor.callLater(0, stop)


def redis_endpoint(reactor: Any, settings: dict[str, Any], address: RedisAddress) -> Any:
    """The client endpoint for Redis; StartError for certificates that can't be used."""
    files = TlsFiles(
        *(
            None if settings[name] is None else str(settings[name])
            for name in ("redis_ca", "redis_cert", "redis_key")
        )
    )
    try:
        return client_endpoint(address, reactor, files)
    except ValueError as error:
        raise StartError(error) from None


def start_embedded(reactor: Any, server: EmbeddedServer, use: Callable[[RedisAddress], None]) -> None:
    """Start the embedded server and `use` its address; StartError when that can be seen to fail at once."""
    failed: list[Any] = []
    starting = server.start()
    if not starting.called:
        starting.addErrback(_embedded_failed, reactor)
    starting.addCallbacks(use, failed.append)
    if failed and failed[0].check(EmbeddedServerError):
        raise StartError(failed[0].getErrorMessage())


def _embedded_failed(failure: Any, reactor: Any) -> Any:
    if not failure.check(defer.CancelledError):
        stop_for(reactor, failure.getErrorMessage())
    return failure
