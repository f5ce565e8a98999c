"""Logging out: makes a browser forget the user of HTTP Basic authentication, which has no way to do so.

Browsers replace the user that they remember by another one that is accepted. So the page asks for `LOGOUT` as
`LOGGED_OUT`, who is accepted there and nowhere else, and then shows `GOODBYE`.
"""

from typing import Final

from jt709c_gateway.web.basic_auth import CHALLENGE, LOGGED_OUT, credentials
from jt709c_gateway.web.http import ApiError, Response

#: The path that browsers forget their user at, and that of the page which says so.
LOGOUT: Final = "/logout"
GOODBYE: Final = "/logged-out"
# Without styles, which only users may read.
_PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Logged out</title>
</head>
<body>
<main>
<h1>You are logged out</h1>
<p>This browser has forgotten your password, unless you have saved it there.</p>
<p><a href="./">Log in</a></p>
</main>
</body>
</html>
"""


def answer(path: str, authorization: bytes | None) -> Response:
    """Answer to a request for `LOGOUT` or `GOODBYE`, from anybody.

    Anybody but `LOGGED_OUT` is told at `LOGOUT` that user and password are wrong: a browser that is sent
    there by hand forgets them, and asks for others.
    """
    done = path == GOODBYE or _is_logged_out(authorization)
    return Response(_PAGE, 200 if done else 401, "text/html; charset=utf-8", {} if done else CHALLENGE)


def _is_logged_out(authorization: bytes | None) -> bool:
    try:
        return credentials(authorization)[0] == LOGGED_OUT
    except ApiError:
        return False
