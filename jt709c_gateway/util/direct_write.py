"""Writes to a socket at once, without waiting for the reactor's next turn."""

from typing import Any


def write_at_once(transport: Any, data: bytes) -> bytes:
    """Write what the kernel accepts now; return the rest for `transport.write`.

    `transport` is a connected Twisted TCP or UNIX transport. Stock Twisted queues data, waits for writability
    and writes in the next reactor turn, at most 128 KiB at a time. Nothing is written here while data are
    queued, since it would overtake them.
    """
    if (
        not transport.connected
        or transport.disconnecting
        or transport.disconnected
        or transport.dataBuffer
        or transport._tempDataBuffer
    ):
        return data
    send = transport.socket.send
    try:
        while (sent := send(data)) < len(data):
            data = data[sent:]
    except OSError:
        # The kernel's buffer is full, or the connection is lost, which the reactor detects by itself.
        return data
    return b""
