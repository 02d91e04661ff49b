"""Requests on the daemon's socket: one real server in this process handles all inputs."""

import atexit
import json
import logging
import random
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

from curation.errors import UserError
from curation.files import read_whole
from curation.workspace import Workspace
from distill.daemon import connections
from distill.daemon.address import socket_path
from distill.daemon.names import Checked, name_in
from distill.daemon.opening import open_queue
from distill.daemon.server import _api
from distill.daemon.service import JobService
from tests.fuzz.harness import Files, Special, reader

_HOST = b"Host: daemon\r\n"
_SPEC = b'name = "a-job"\n[data]\ntrain = "faces/train"\n'
_REQUESTS = [
    b"GET /health HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n\r\n",
    b"GET /jobs HTTP/1.1\r\n" + _HOST + b"Accept: */*\r\nConnection: close\r\n\r\n",
    b"POST /jobs?replace=true HTTP/1.1\r\n"
    + _HOST
    + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(_SPEC)
    + _SPEC,
    b"POST /jobs HTTP/1.1\r\n"
    + _HOST
    + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(_SPEC)
    + _SPEC
    + b"\r\n0\r\n\r\n",
    b"GET /jobs/a-job/log?offset=-100 HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n\r\n",
    b"POST /jobs/a-job/cancel HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n\r\n",
    b"POST /jobs HTTP/1.1\r\n"
    + _HOST
    + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 12\r\n\r\nname = 'abc'",
    b"GET /health HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"GET /health HTTP/1.1\r\n" + _HOST + b"\r\nGET /jobs/x HTTP/1.1\r\n" + _HOST + b"\r\n",
]
_QUIET_SECONDS = 0.3


def _samples() -> list[Files]:
    return [{"request": request} for request in _REQUESTS]


def _words(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change the method, path, version, a header, a length or a chunk."""
    content = files.get("request")
    if not isinstance(content, bytes):
        return
    lines = content.split(b"\r\n")
    place = rng.randrange(len(lines))
    odd = rng.choice(_ODD)
    lines[place : place + rng.randrange(2)] = [odd] * rng.choice((1, 1, 2, 2000))
    files["request"] = rng.choice((b"\r\n", b"\r\n", b"\n", b"\r")).join(lines)


_ODD = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    b"GET /jobs/%2e%2e%2f%00%ff HTTP/1.1",
    b"GET http://[::1/ HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"POST /jobs?replace=%F0 HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET /jobs/a/log?offset=" + b"9" * 5000 + b" HTTP/1.1",
    b"GET / HTTP/9.9",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1",
    b"Content-Length: 18446744073709551616",
    b"Content-Length: -1",
    b"Content-Length: 0",
    b"Content-Length: 65537",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked",
    b"ffffffffffffffffffffff",
    b"10;name=" + b"x" * 5000,
    b"Upgrade: websocket",
    b"Connection: upgrade",
    b"Expect: 100-continue",
    b"Host: a",
    b" folded: header",
    b": no name",
    b"X: " + b"\xff" * 300,
    b"X: \0",
    b"Cookie: " + b"a" * 15_000,
    b"",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b'name = "\\ud800"',
    b"name = [[[[[[[[",
]


class _Heard(logging.Handler):
    """Errors logged by the server and its event loop."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(self.format(record))


@cache
def _server() -> tuple[Workspace, _Heard]:
    """A server that runs as long as the process."""
    connections.REQUEST_SECONDS = connections.UNREAD_SECONDS = 0.2
    workspace = Workspace(Path(tempfile.mkdtemp(prefix="fuzz-daemon-")))
    heard = _Heard()
    logging.getLogger().addHandler(heard)
    service = JobService(workspace, open_queue(workspace), _check)
    # The server's thread is a daemon thread, so it does not keep the process alive.
    serving = _api(service, 1)
    starts = threading.Thread(target=serving.__enter__, daemon=True)
    starts.start()
    starts.join()
    atexit.register(_take_away, workspace, serving)
    return workspace, heard


def _take_away(workspace: Workspace, serving: object) -> None:
    """Delete the workspace at exit; the arguments keep the server alive until then."""
    shutil.rmtree(workspace.root)


def _check(text: str) -> Checked:
    name_in(text)
    return Checked()


@reader("http", _samples, [_words], share=0.1)
def read(folder: Path) -> None:
    request = read_whole(folder / "request", 1 << 21)
    workspace, heard = _server()
    answer = _answer(workspace, request)
    health = _answer(workspace, _REQUESTS[0])
    assert health.startswith(b"HTTP/1.1 200"), health[:200]
    assert not heard.errors, heard.errors.pop()
    assert len(answer) < 4 << 20
    if answer and not answer.startswith(b"HTTP/1.1 2") and not answer.startswith(b"HTTP/1.1 1"):
        raise UserError(_error(answer))


def _answer(workspace: Workspace, request: bytes) -> bytes:
    """Everything the server sends until it is silent or closes the connection."""
    heard = b""
    with socket_path(workspace) as path, socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(_QUIET_SECONDS)
        peer.connect(path)
        with suppress(OSError):  # closed; its answer may still be readable
            peer.sendall(request)
        with suppress(OSError):
            while piece := peer.recv(1 << 16):
                heard += piece
    return heard


def _error(answer: bytes) -> str:
    """Check that an error is one line of JSON."""
    head, _, body = answer.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0])
    if head.split()[1] in (b"307", b"404") and not body:
        return "elsewhere"
    told = json.loads(body[:size])["error"]
    assert isinstance(told, str)
    assert len(told) < 1000
    return told
