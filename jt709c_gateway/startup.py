"""Errors at the start, connections to Redis, and the start of the embedded server."""

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from attrs import evolve
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.config.settings import Settings
from jt709c_gateway.redis.address import EmbeddedAddress, RedisAddress, client_endpoint
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.credentials import read_password
from jt709c_gateway.redis.embedded.server import EmbeddedServer
from jt709c_gateway.redis.tls import TlsFiles
from jt709c_gateway.transport.listeners import ListenError
from jt709c_gateway.transport.proxy_protocol import split_proxied

#: Exit status of a process that stops because it can't continue.
EXIT_FAILURE: Final = 1
#: Share of a gateway's ttl that one reply of Redis may take, at most: a renewal must be able to fail and be
#: repeated before other gateways adopt its commands.
_REPLY_SHARE: Final = 2 / 3
#: The option without ports of a kind, by the option that names such a port.
_OFF: Final = {"--listen": "--no-tcp", "--udp": "--no-udp"}

_log = Logger()
#: The reactors that `stop_for` has stopped.
_stopped: WeakSet[Any] = WeakSet()


def _tell(line: str) -> None:
    # After twistd has started its log, stderr is redirected there.
    if sys.__stderr__ is not None and sys.stderr is not sys.__stderr__:
        sys.__stderr__.write(f"{line}\n")


class StartError(SystemExit, Exception):
    """The gateway can't start: one line for the operator, without traceback.

    It is an Exception as well, so that twistd in the background reports to its parent and removes its pid
    file.
    """

    def __init__(self, message: object) -> None:
        super().__init__(f"jt709c-gateway: {message}")
        _tell(str(self))


def cannot_listen(error: ListenError) -> StartError:
    """The error for a port that can't be bound, with the options to change."""
    off = _OFF.get(str(error).partition(" ")[0])
    return StartError(f"{error}; choose another" + (f", or {off}" if off else ""))


def _exit_with_failure() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(EXIT_FAILURE)


def stop_for(reactor: Any, reason: str) -> None:
    """Stop because of an error after the start.

    The exit status is `EXIT_FAILURE`, so that a supervisor restarts the process. Of several reasons only the
    first counts: each partition may find the same one.
    """
    if reactor in _stopped:
        return
    _stopped.add(reactor)
    _log.critical("stopping: {reason}", reason=reason)
    _tell(f"jt709c-gateway: {reason}")
    if reactor is sys.modules.get("twisted.internet.reactor"):
        # twistd offers no other way to set the exit status once its reactor runs.
        atexit.register(_exit_with_failure)

    def stop() -> None:
        # A signal may have stopped it already.
        if reactor.running:
            reactor.stop()

    reactor.callLater(0, stop)


def reply_timeout(settings: Settings) -> float:
    """Timeout of Redis's replies in seconds: `--redis-timeout`, but well below `--gateway-ttl`."""
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
    """The client endpoint for Redis; raises StartError for unusable certificates."""
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
    """A connector for Redis; password options do not apply to an embedded server.

    Raises StartError for unusable certificates.
    """
    path: Path | None = None if embedded else settings.redis_password_file
    if settings.redis_password is not None and not embedded:
        address = evolve(address, password=settings.redis_password)
    password = None if path is None else partial(read_password, path)
    return RedisConnector(reactor, address, redis_endpoint(reactor, settings, address), password)


def tcp_descriptions(settings: Settings) -> list[str]:
    """The stream endpoints to listen on, as Twisted describes them."""
    locks = [] if settings.no_tcp else [split_proxied(one)[0] for one in settings.listen]
    return [*locks, settings.http] if settings.http else locks


def embedded_server(reactor: Any, settings: Settings, address: EmbeddedAddress) -> EmbeddedServer:
    """The embedded server as configured, not started."""
    return EmbeddedServer(
        reactor,
        settings.data_dir,
        address.port,
        open_to_all=settings.embedded_open,
        gone=partial(stop_for, reactor),
    )


def start_embedded(reactor: Any, server: EmbeddedServer, use: Callable[[RedisAddress], None]) -> None:
    """Start the embedded server and call `use` with its address; raises StartError if that fails at once."""
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
