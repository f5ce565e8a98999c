"""Writing to a socket at once, for transports that would otherwise wait for the reactor's next turn."""

from typing import Any


def write_at_once(transport: Any, data: bytes) -> bytes:
    """Hand to the kernel what it takes now; what is left is for `transport.write`.

    `transport` is a connected Twisted TCP or UNIX transport. Stock Twisted queues what it is given, asks the
    reactor to watch for writability and writes in the next turn, at most 128 KiB a time. Nothing is taken
    while something is queued, since it would overtake that.
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
        # Anything but a count is the reason the connection is gone; the reactor finds out by itself.
        if not isinstance(sent, int) or sent <= 0:
            break
        complete = sent == len(data) or sent == transport.SEND_LIMIT
        data = data[sent:]
        if not complete:
            break
    return data
