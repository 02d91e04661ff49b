"""Signing in, by the link of `distill open` or with the token."""

import hashlib
import os
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from curation.workspace import Workspace
from distill.web.keys import SESSION_SECONDS, Keys
from distill.web.limits import RateLimit
from distill.web.site import PageMaker

_GUESSES_AT_ONCE, _GUESSES_A_SECOND = 10, 0.1


def cookie_name(workspace: Workspace) -> str:
    """The cookie's name; unique per workspace because all ports of a host share their cookies."""
    return f"distill-{hashlib.sha256(os.fsencode(workspace.root)).hexdigest()[:12]}"


def router(site: PageMaker, keys: Keys, cookie: str, secure: bool) -> APIRouter:
    routes = APIRouter()
    guesses = RateLimit(_GUESSES_AT_ONCE, _GUESSES_A_SECOND)

    def welcome(to: str) -> Response:
        answer = RedirectResponse(_own_page(to), 303)
        answer.set_cookie(
            cookie,
            keys.session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return answer

    @routes.get("/sign-in")
    def sign_in(link: str | None = None, to: str = "/") -> Response:
        """Accept a one-time link of `distill open`, or ask for the token."""
        if link is None:
            return site.page("sign_in.html", why=None)
        if keys.take_link(link):
            return welcome(to)
        why = "This link was already used or has expired; `distill open` makes a new one."
        return site.page("sign_in.html", 403, why=why)

    @routes.post("/sign-in")
    async def sign_in_by_token(request: Request) -> Response:
        """Sign in with the token from the form."""
        sent = parse_qs((await request.body()).decode(errors="replace"))
        if not guesses.allows(request.client.host if request.client else ""):
            return site.page("sign_in.html", 429, why="Too many tries: wait a minute.")
        if keys.is_token("".join(sent.get("token", [])).strip()):
            return welcome("/")
        return site.page("sign_in.html", 403, why="This is not the token of the workspace.")

    @routes.post("/sign-out")
    def sign_out() -> Response:
        """Sign this browser out."""
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(cookie, httponly=True, samesite="strict", secure=secure)
        return answer

    return routes


def _own_page(to: str) -> str:
    """``to`` if it is one of our pages; otherwise the home page."""
    is_ours = to.startswith("/") and not to.startswith("//") and "\\" not in to
    return to if is_ours and to.isprintable() else "/"
