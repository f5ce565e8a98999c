"""The Lua scripts of a move; gateways don't load them."""

from typing import Final

from jt709c_gateway.redis.scripts import Script

READ: Final = Script.of("repartition_read")
DIGEST: Final = Script.of("repartition_digest")


def _guarded(name: str) -> Script:
    return Script.of(name, "repartition_guard", name)


WRITE: Final = _guarded("repartition_write")
DELETE: Final = _guarded("repartition_delete")
RENAME: Final = _guarded("repartition_rename")
TAKE: Final = _guarded("repartition_take")
PASS: Final = _guarded("repartition_pass")
