"""Access to the pages: requires the workspace's token, or a session created with it.

Only the owner of the token file can read it. Links and sessions are signed with the token, so they
survive a restart and become invalid when the file is replaced.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from curation.errors import UserError
from curation.files import read_whole

TOKEN_FILE = "web-token"
"""In ``daemon/``"""
LINK_SECONDS = 600
SESSION_SECONDS = 7 * 24 * 3600
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_SIGNED = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{22})\.([0-9a-f]{64})")
_LARGEST = 1 << 12


def workspace_token(folder: Path) -> str:
    """The token in a ``daemon/`` folder, created on first use.

    Raises ``UserError`` if others can read the file, or if it holds anything but a token.
    """
    path = folder / TOKEN_FILE
    if not os.path.lexists(path):
        # Complete under another name first: a full disk leaves no file without a token.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{TOKEN_FILE}.", buffering=0) as made:
            try:
                made.write(secrets.token_urlsafe(32).encode())
            except OSError as error:  # a full disk
                raise OSError(error.errno, error.strerror, str(path)) from None
            with suppress(FileExistsError):  # another process was faster
                os.link(made.name, path)
    try:
        return read_token(path)
    except UserError as error:
        raise UserError(f"{error}; remove it and run the same command again") from None


def read_token(path: Path) -> str:
    """The token in a file; ``UserError`` if the file is not trustworthy."""
    text = read_whole(path, _LARGEST).decode(errors="replace").strip()
    status = path.lstat()
    if not _TOKEN.fullmatch(text):
        raise UserError(f"{path} holds no token")
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise UserError(f"others can read {path}")
    return text


class Keys:
    """Creates and checks signatures; ``start`` identifies the process that issues the links."""

    def __init__(self, token: str, start: str, now: Callable[[], float] = time.time) -> None:
        self._token = token
        self._start = start
        self._now = now
        self._mutex = threading.Lock()
        self._used: dict[str, float] = {}

    def is_token(self, text: str) -> bool:
        """Whether ``text`` is the token."""
        return hmac.compare_digest(text.encode(errors="replace"), self._token.encode())

    def link(self) -> str:
        """A one-time sign-in link that expires after a few minutes."""
        return self._signed(f"link {self._start}", LINK_SECONDS)

    def take_link(self, text: str) -> bool:
        """Whether the link is valid; it cannot be used again."""
        if not self._holds(f"link {self._start}", text):
            return False
        now = self._now()
        with self._mutex:  # requests are answered in several threads
            self._used = {used: ends for used, ends in self._used.items() if ends > now}
            if text in self._used:
                return False
            self._used[text] = now + LINK_SECONDS
            return True

    def proof(self) -> str:
        """What tells other processes which token the issuer of the links has."""
        return self._mac("proof", self._start)

    def session(self) -> str:
        """The cookie of a signed-in browser."""
        return self._signed("session", SESSION_SECONDS)

    def is_session(self, text: str) -> bool:
        return self._holds("session", text)

    def _signed(self, kind: str, seconds: float) -> str:
        ends, salt = str(int(self._now() + seconds)), secrets.token_urlsafe(16)
        return f"{ends}.{salt}.{self._mac(kind, ends, salt)}"

    def _holds(self, kind: str, text: str) -> bool:
        if (parts := _SIGNED.fullmatch(text)) is None:
            return False
        ends, salt, mac = parts.groups()
        return hmac.compare_digest(mac, self._mac(kind, ends, salt)) and int(ends) > self._now()

    def _mac(self, *parts: str) -> str:
        return hmac.new(self._token.encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()
