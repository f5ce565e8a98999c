"""What a start has to say when it fails, and the start of the embedded server."""

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from attrs import evolve
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.config.options import read_password
from jt709c_gateway.config.settings import Settings
from jt709c_gateway.redis.address import EmbeddedAddress, RedisAddress, client_endpoint
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.embedded.server import EmbeddedServer
from jt709c_gateway.redis.tls import TlsFiles
from jt709c_gateway.transport.proxy_protocol import split_proxied

#: How the process ends when it stops by itself since it can't go on.
EXIT_FAILURE: Final = 1
#: What of the ttl of a gateway's liveness a reply of Redis may take at the most: a renewal must be able to
#: fail, and be tried again, before others take the gateway for dead.
_REPLY_SHARE: Final = 2 / 3

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


def _exit_with_failure() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(EXIT_FAILURE)


def stop_for(reactor: Any, reason: str) -> None:
    """Stop for a reason that showed when the start was over, and nobody is there any more to raise to.

    The process ends with the status `EXIT_FAILURE`, so that whoever supervises it starts it again.
    """
    _log.critical("stopping: {reason}", reason=reason)
    _tell(f"jt709c-gateway: {reason}")
    if reactor is sys.modules.get("twisted.internet.reactor"):
        # twistd has no other way to say so once its reactor runs.
        atexit.register(_exit_with_failure)

    def stop() -> None:
        # A signal may have been faster.
        if reactor.running:
            reactor.stop()

    reactor.callLater(0, stop)


def reply_timeout(settings: Settings) -> float:
    """Seconds that Redis may take for a reply: `--redis-timeout`, but well below `--gateway-ttl`."""
    asked, most = settings.redis_timeout, settings.gateway_ttl * _REPLY_SHARE
    if asked > most:
        _log.warn(
            "--redis-timeout {asked:g} is not well below --gateway-ttl {ttl:g}; {most:g} s is used instead",
            asked=asked,
            ttl=settings.gateway_ttl,
            most=most,
        )
    return float(min(asked, most))


def redis_endpoint(reactor: Any, settings: Settings, address: RedisAddress) -> Any:
    """The client endpoint for Redis; StartError for certificates that can't be used."""
    files = TlsFiles(
        *(
            None if path is None else str(path)
            for path in (settings.redis_ca, settings.redis_cert, settings.redis_key)
        )
    )
    try:
        return client_endpoint(address, reactor, files)
    except ValueError as error:
        raise StartError(error) from None


def redis_connector(
    reactor: Any, settings: Settings, address: RedisAddress, *, embedded: bool = False
) -> RedisConnector:
    """The way to Redis by the settings; those about a password are not for an embedded server.

    StartError for certificates that can't be used.
    """
    path: Path | None = None if embedded else settings.redis_password_file
    if settings.redis_password is not None and not embedded:
        address = evolve(address, password=settings.redis_password)
    password = None if path is None else partial(read_password, path)
    return RedisConnector(reactor, address, redis_endpoint(reactor, settings, address), password)


def tcp_descriptions(settings: Settings) -> list[str]:
    """The stream endpoints that the settings have listened on, as Twisted takes them."""
    locks = [] if settings.no_tcp else [split_proxied(one)[0] for one in settings.listen]
    return [*locks, settings.http] if settings.http else locks


def embedded_server(reactor: Any, settings: Settings, address: EmbeddedAddress) -> EmbeddedServer:
    """The embedded server as the settings ask for it; not started yet."""
    return EmbeddedServer(
        reactor,
        settings.data_dir,
        address.port,
        open_to_all=settings.embedded_open,
        gone=partial(stop_for, reactor),
    )


def start_embedded(reactor: Any, server: EmbeddedServer, use: Callable[[RedisAddress], None]) -> None:
    """Start the embedded server and `use` its address; StartError when that can be seen to fail at once."""
    failed: list[Any] = []
    starting = server.start()
    if not starting.called:
        starting.addErrback(_embedded_failed, reactor)
    starting.addCallbacks(use, failed.append)
    if failed and not failed[0].check(defer.CancelledError):
        raise StartError(failed[0].getErrorMessage())


def _embedded_failed(failure: Any, reactor: Any) -> Any:
    if not failure.check(defer.CancelledError):
        stop_for(reactor, failure.getErrorMessage())
    return failure
