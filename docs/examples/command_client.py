"""Open a lock and tell what became of it, with the client: python command_client.py DEVICE < password-file

The exit status is 0 when it was opened, 1 when it was not, and 2 when nobody knows.
"""

import asyncio
import os
import sys

from jt709c_gateway.client import AsyncClient


async def main(device: str, password: str) -> int:
    """Give one unlock command and follow it to its end."""
    async with AsyncClient(os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379")) as client:
        command = await client.commands.send(
            device, "unlock", {"password": password}, ttl=60, issued_by="command_client.py"
        )
        outcome = await client.commands.wait(command)
    print(outcome.state, outcome.reason or "")
    if outcome.succeeded:
        return 0
    return 2 if outcome.is_unknown else 1


sys.exit(asyncio.run(main(sys.argv[1], sys.stdin.readline().strip())))
