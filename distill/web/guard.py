"""Checks every request: host, rate, user, origin and size."""

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distill.daemon.problems import problem
from distill.web.keys import Keys
from distill.web.limits import RateLimit

LARGEST_BODY = 1 << 20
"""Bytes; enough for a decision on 100,000 faces (``MOST_LINES``), and ample for a job spec."""
AT_ONCE, A_SECOND = 600, 300
"""Burst and rate of one browser's requests; a page of faces requests a hundred images"""
OPEN = ("/sign-in", "/static/")
"""Paths that need no sign-in"""
_CHANGES_NOTHING = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Passes permitted requests on to ``app``, and adds the security headers to every response.

    ``origins`` are the schemes, hosts and ports under which browsers may reach these pages.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys, origins: frozenset[str], cookie: str, secure: bool
    ) -> None:
        self._app = app
        self._keys = keys
        self._origins = origins
        self._hosts = frozenset(origin.partition("://")[2] for origin in origins)
        self._cookie = cookie
        self._secure = secure
        self._rate = RateLimit(AT_ONCE, A_SECOND)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._put_headers(scope, MutableHeaders(scope=message))
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, _limited(receive), send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        who = (scope.get("client") or ("", 0))[0]
        if headers.get("host", "").lower() not in self._hosts:
            return refused(421, "these pages are not served under this name; see --web-url")
        if not self._rate.allows(who):
            return refused(429, "too many requests; try again in a moment", {"Retry-After": "1"})
        if (length := headers.get("content-length", "0")).isdigit() and int(length) > LARGEST_BODY:
            return refused(413, f"a request has at most {LARGEST_BODY >> 10} KiB")
        by_token = headers.get("authorization", "").removeprefix("Bearer ")
        if by_token and not self._keys.is_token(by_token):
            return refused(401, "this is not the token of the workspace", BEARER)
        if scope["method"] not in _CHANGES_NOTHING and not by_token and self._is_foreign(headers):
            return refused(403, "the request comes from another site")
        if by_token or self._is_signed_in(headers) or path.startswith(OPEN):
            return None
        return _require_sign_in(scope, headers)

    def _is_signed_in(self, headers: Headers) -> bool:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return found is not None and self._keys.is_session(found.value)

    def _is_foreign(self, headers: Headers) -> bool:
        return headers.get("origin", "").lower() not in self._origins

    def _put_headers(self, scope: Scope, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store")
        if self._secure:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")


BEARER = {"WWW-Authenticate": "Bearer"}


def refused(status: int, why: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal as one line of JSON, sent without reading the body."""
    return problem(why, status, {"Connection": "close", **(headers or {})})


def _require_sign_in(scope: Scope, headers: Headers) -> Response:
    """Redirects a person to the sign-in page; tells a program how to sign in."""
    if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        return RedirectResponse("/sign-in", 303)
    why = "sign in: `distill open`, or the header Authorization: Bearer with the token"
    return refused(401, why, BEARER)


def _limited(receive: Receive) -> Receive:
    """The body up to the size limit; beyond it, pretends that the client disconnected."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > LARGEST_BODY:
            return {"type": "http.disconnect"}
        return message

    return limited
