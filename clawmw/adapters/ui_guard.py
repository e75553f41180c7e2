"""Who may look at the pages of `clawmw ui`.

As for the gateway, loopback is no authentication: a web page that the user opens can reach it. So
the Host must be one of ours (a rebound DNS name is not), and requests that another site makes are
refused. On other addresses a token is needed: in `Authorization: Bearer`, or once as `?token=`,
which is then kept in a cookie of this site alone.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl, quote, unquote, urlencode

from clawmw.adapters.gateway_guard import (
    App,
    GatewayError,
    Guard,
    Host,
    Receive,
    Scope,
    Send,
    answer,
    header,
)

__all__ = ["COOKIE", "UiGuard"]

COOKIE = "clawmw-ui"


class UiGuard(Guard):
    """Lets through who may look, and says in plain words why another may not."""

    def __init__(self, app: App, hosts: frozenset[Host], token: str | None = None) -> None:
        super().__init__(app, hosts)
        self._secret = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the module."""
        if scope["type"] != "http":
            return
        try:
            self._check_host(scope)
        except GatewayError:
            said = "this Host is not clawmw's; use the address that `clawmw ui` printed"
            await _say(send, 403, said)
            return
        try:
            self._check_site(scope)
        except GatewayError:
            await _say(send, 403, "other sites may not ask here; open the address yourself")
            return
        if self._secret is None or self._knows(scope, self._secret):
            await self.app(scope, receive, send)
            return
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"))
        given = dict(query).get("token")
        if given is None or not _same(given, self._secret):
            said = "a token is needed: open the address with ?token=... once"
            await _say(send, 401, said, ("www-authenticate", "Bearer"))
            return
        # The token leaves the address bar, and with it the history.
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + quote(scope["path"].lstrip("/"))
        cookie = f"{COOKIE}={quote(self._secret, safe='')}; HttpOnly; SameSite=Strict; Path=/"
        place = f"{path}?{rest}" if rest else path
        await _say(send, 303, "", ("location", place), ("set-cookie", cookie))

    @staticmethod
    def _knows(scope: Scope, secret: str) -> bool:
        scheme, _, given = (header(scope, b"authorization") or b"").partition(b" ")
        if scheme.lower() == b"bearer" and _same(given.strip().decode("latin-1"), secret):
            return True
        # By hand: other programs of this host set cookies, too, and one that is not of the right
        # form ends what http.cookies reads.
        for pair in (header(scope, b"cookie") or b"").decode("latin-1").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == COOKIE and _same(unquote(value), secret):
                return True
        return False


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


async def _say(send: Send, status: int, text: str, *headers: tuple[str, str]) -> None:
    kept = (("content-type", "text/plain"), ("cache-control", "no-store"), *headers)
    encoded = [(k.encode(), v.encode("latin-1", "replace")) for k, v in kept]
    await answer(send, status, encoded, f"clawmw ui: {text}\n".encode())
