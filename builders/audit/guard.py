"""Who may ask the server of `stemloom audit`: who knows its token, on this machine.

The first part of every path is a random token, which only who started the server knows; the host that a browser
names must be this machine (another one would be a page that rebinds its name), and what changes anything is a POST
of JSON, which no form of another page can send. Where a browser says from which page a POST comes, it must be ours.
"""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HOSTS = ("127.0.0.1", "localhost")
_NO_TOKEN = "the address lacks its token: use the one that 'stemloom audit' printed"


class Guard:
    """Lets nothing in without the token, nor from another host, and puts headers on what goes out."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (self.app if refusal is None else refusal)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        if host not in _HOSTS:
            return PlainTextResponse(f"host {host!r} is not this machine: use {' or '.join(_HOSTS)}", 400)
        given, slash, _ = scope["path"].removeprefix("/").partition("/")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return PlainTextResponse(_NO_TOKEN, 403)
        if not slash:
            return Response(status_code=307, headers={"Location": f"/{self.token}/"})
        origin = headers.get("origin")
        if scope["method"] == "POST" and origin not in (None, f"{scope['scheme']}://{headers['host']}"):
            return PlainTextResponse(f"a page of {origin!r} gives no verdicts here", 403)
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("send JSON, as content type application/json", 400)
        return None
