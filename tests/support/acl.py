"""The users of etc/redis-acl.conf on a real server, created as the file tells an operator to."""

import re
import subprocess
from collections.abc import Sequence

from tests.support import LOOPBACK, ROOT, RedisClient, RedisError, ValkeyServer

ACL_FILE = ROOT / "etc" / "redis-acl.conf"
GATEWAY, READER, COMMANDER = "jt709c-gateway", "jt709c-reader", "jt709c-commander"
#: A bracketed selector is one rule, including its spaces.
_RULE = re.compile(r"\([^)]*\)|\S+")


def password_of(user: str) -> str:
    """Return the password of a user in tests."""
    return f"secret-of-{user.removeprefix('jt709c-')}"


def user_lines(prefix: str = "jt709c", *, several: bool = False) -> str:
    """Return the lines of an ACL file, made by the commands in the header of etc/redis-acl.conf.

    `several` is for several partitions.
    """
    lines = "".join(
        line for line in ACL_FILE.read_text().splitlines(keepends=True) if line.startswith("user")
    )
    expressions = ["s/change-me-/secret-of-/", f"s/jt709c:/{prefix}:/g"]
    if several:
        expressions.append(f"/gateway on/!s/~{prefix}:/~{prefix}:{{*}}:/g")
    return subprocess.run(
        ["sed", *(part for one in expressions for part in ("-e", one))],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def rules_of(user: str, prefix: str = "jt709c") -> list[str]:
    """Return the rules of a user, each as an argument of ACL SETUSER."""
    (line,) = (one for one in user_lines(prefix).splitlines() if one.split()[1] == user)
    return _RULE.findall(line)[2:]


def log_in(client: RedisClient, user: str, password: str) -> RedisClient:
    """Log a client in as this user and return it."""
    client.call("AUTH", user, password)
    return client


def denials(admin: RedisClient, user: str) -> list[str]:
    """Return the server's denials of a user: reason, object, and whether inside a script."""
    found = []
    for flat in admin.call("ACL", "LOG"):
        entry = dict(zip(flat[::2], flat[1::2], strict=True))
        if entry[b"username"] == user.encode():
            found.append(f"{entry[b'reason']} {entry[b'object']} {entry[b'context']} {entry[b'client-info']}")
    return found


def is_denied(client: RedisClient, command: Sequence[object]) -> bool:
    """Whether a command is refused for lack of a right. Any other error is raised."""
    try:
        client.call(*command)
    except RedisError as error:
        if str(error).startswith("NOPERM"):
            return True
        raise
    return False


class GuardedServer(ValkeyServer):
    """A real server with the three users, loaded from an ACL file; the user `default` has all rights."""

    def __init__(self, *options: str, prefix: str = "jt709c", several: bool = False) -> None:
        super().__init__()
        path = self.directory / "users.acl"
        path.write_text(user_lines(prefix, several=several))
        self._options = ("--aclfile", str(path), *options)

    def url_of(self, user: str) -> str:
        """Its URL for ``--redis`` as a user."""
        return f"redis://{user}:{password_of(user)}@{LOOPBACK}:{self.port}"

    @property
    def gateway_url(self) -> str:
        """Its URL for a gateway, whose user has only the rights it needs."""
        return self.url_of(GATEWAY)

    def client_of(self, user: str) -> RedisClient:
        """Return a new blocking client, logged in as a user."""
        return log_in(self.client(), user, password_of(user))

    def end(self) -> None:
        """Stop it; AssertionError when it has denied the gateway anything."""
        with self.client() as admin:
            denied = denials(admin, GATEWAY)
        self.discard()
        assert not denied, f"etc/redis-acl.conf lacks a right that the gateway needs: {denied}"
