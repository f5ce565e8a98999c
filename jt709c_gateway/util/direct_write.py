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
    while data:
        sent = transport.writeSomeData(data)
        # Any result but a count is the reason of a lost connection, which the reactor detects by itself.
        if not isinstance(sent, int) or sent <= 0:
            break
        complete = sent == len(data) or sent == transport.SEND_LIMIT
        data = data[sent:]
        if not complete:
            break
    return data
