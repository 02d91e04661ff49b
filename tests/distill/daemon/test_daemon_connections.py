"""Idle connections and clients that do not speak HTTP keep nobody out."""

import json
import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from curation.errors import UserError
from distill.daemon import client, stopping
from distill.daemon.address import SOCKET
from distill.daemon.connections import MOST_CONNECTIONS
from distill.daemon.opening import open_queue
from distill.daemon.submitting import Answer
from tests.distill.daemon.harness import Harness, spec, wait_until

HEAD = b"Host: daemon\r\n\r\n"
CHUNKED = b"POST /jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    made = Harness(tmp_path_factory.mktemp("connections") / "workspace")
    with open_queue(made.workspace) as queue, queue.exclusive():
        for number in range(1000):  # a response of half a megabyte
            queue.submit(f"job-{number}", "spec", 0.0)
    made.start(slots=0)
    yield made
    made.clean_up()


class Peer:
    """Another program with a connection."""

    def __init__(self, harness: Harness, words: bytes = b"") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(harness.workspace.daemon / SOCKET))
        self.send(words)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, words: bytes) -> bool:
        """Whether the daemon is still receiving."""
        try:
            self.socket.sendall(words)
        except OSError:
            return False
        return True

    def is_dropped(self) -> bool:
        """Whether the daemon has closed the connection; reads nothing."""
        watched = select.poll()
        watched.register(self.socket, 0)
        return any(event & select.POLLHUP for _, event in watched.poll(0))

    def heard(self) -> bytes:
        """Everything until the daemon closes the connection."""
        heard = b""
        try:
            while piece := self.socket.recv(1 << 16):
                heard += piece
        except ConnectionResetError:
            pass
        return heard


def is_free(harness: Harness) -> bool:
    try:
        return client.health(harness.workspace) is not None
    except UserError:  # all connections are busy
        return False


def peak_megabytes(harness: Harness) -> int:
    assert harness.daemon is not None
    status = Path(f"/proc/{harness.daemon.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"GET /hea",
        b"GET /health HTTP/1.1\r\nHost: x\r\n",
        b"POST /jobs HTTP/1.1\r\nContent-Length: 1000\r\n" + HEAD + b"name = ",
        CHUNKED + b"5\r\nname ",
        b"GET /jobs HTTP/1.1\r\n" + HEAD,
        b"GET /health HTTP/1.1\r\n" + HEAD + b"GET /hea",
    ],
    ids=["nothing", "line", "head", "body", "chunk", "unread answer", "half a second request"],
)
def test_a_hundred_idle_connections_block_no_client(harness: Harness, words: bytes) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(Peer(harness, words)) for _ in range(100)]
        wait_until(lambda: is_free(harness), "what was asked is answered")
        began = time.monotonic()
        assert harness.submit("job-1", "pass", replace=True) in Answer
        assert time.monotonic() - began < 60
        for peer in idle:
            peer.heard()  # the daemon finally closes each of them
        assert time.monotonic() - began < 90
    assert client.health(harness.workspace) is not None


def test_a_slow_request_gets_no_more_time_for_each_byte(harness: Harness) -> None:
    with Peer(harness, b"GET /health HTTP/1.1\r\nX: ") as peer:
        began = time.monotonic()
        while peer.send(b"x"):
            time.sleep(0.05)
            assert time.monotonic() - began < 60
    with Peer(harness, b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD) as peer:
        while peer.send(b"1\r\nx\r\n"):  # the response came long ago
            time.sleep(0.05)
            assert time.monotonic() - began < 120


def test_an_answer_that_is_not_read_is_given_up(harness: Harness) -> None:
    with Peer(harness, 3 * (b"GET /jobs?limit=1000 HTTP/1.1\r\n" + HEAD)) as peer:
        wait_until(peer.is_dropped, "the daemon gives up")
        assert len(peer.heard()) < 500_000
    with Peer(harness, b"GET /jobs?limit=1000 HTTP/1.0\r\n\r\n") as peer:
        assert len(peer.heard()) > 250_000


def slow_submit(name: str) -> bytes:
    """A request whose check takes a while."""
    body = spec(name, "pass # slow").encode()
    return b"POST /jobs HTTP/1.1\r\nContent-Length: %d\r\n" % len(body) + HEAD + body


def test_a_busy_daemon_tells_the_next_client_to_come_again(harness: Harness) -> None:
    with ExitStack() as stack:
        peers = [
            stack.enter_context(Peer(harness, slow_submit(f"slow-{number}")))
            for number in range(MOST_CONNECTIONS + 20)
        ]
        with pytest.raises(UserError, match="busy with 64 requests; try again in a moment"):
            stopping.cancel(harness.workspace, ["job-7"])
        answers = [peer.heard().split()[1] for peer in peers]
    assert answers[:MOST_CONNECTIONS] == [b"200"] * MOST_CONNECTIONS
    assert set(answers[MOST_CONNECTIONS:]) == {b"503"}


def test_submits_under_check_do_not_hold_up_a_cancel(harness: Harness) -> None:
    with ExitStack() as stack:
        waiting = [
            stack.enter_context(Peer(harness, slow_submit(f"late-{number}")))
            for number in range(50)
        ]
        began = time.monotonic()
        stopping.cancel(harness.workspace, ["job-7"])
        cancelled = time.monotonic()
        assert b"200" in waiting[-1].heard()
        assert cancelled - began < 0.5 * (time.monotonic() - began)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (random.Random(1).randbytes(4096), b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100), b"404"),
        (b"GET / HTTP/9.9\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, b"400"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 50_000, b"400"),
        (b"GET /jobs/\xff HTTP/1.1\r\n" + HEAD, b"400"),
        (b"GET /jobs/%ff%fe HTTP/1.1\r\n" + HEAD, b"422"),
        (b"GET /jobs/" + b"a" * 15_000 + b" HTTP/1.1\r\n" + HEAD, b"422"),
        (b"GET /jobs/a/log?offset=" + b"9" * 14_000 + b" HTTP/1.1\r\n" + HEAD, b"422"),
        (b"POST /jobs HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n" + HEAD, b"400"),
        (b"POST /jobs HTTP/1.1\r\nContent-Length: 99999999999\r\n" + HEAD, b"413"),
        (b"POST /jobs HTTP/1.1\r\nContent-Length: -1\r\n" + HEAD, b"400"),
        (CHUNKED + b"zz\r\n", b"400"),
        (CHUNKED + b"ffffffffffffffff\r\n" + b"x" * 100_000, b"413"),
        (b"TRACE / HTTP/1.1\r\n" + HEAD, b"404"),
        (b"DELETE /jobs HTTP/1.1\r\n" + HEAD, b"405"),
        (b"GET /health HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + HEAD, b"200"),
        (b"GET /health HTTP/1.1\r\n" + HEAD + b"GARBAGE\r\n\r\n", b"200"),
        (b"GET /health HTTP/1.1\r\n" + HEAD + bytes(100_000), b"200"),
        (300 * (b"GET /health HTTP/1.1\r\n" + HEAD), b"200"),
    ],
    ids=lambda value: ascii(value[:30]) if len(value) > 3 else "",
)
def test_any_input_gets_a_short_answer_or_is_hung_up_on(
    harness: Harness, words: bytes, status: bytes
) -> None:
    with Peer(harness, words) as peer:
        heard = peer.heard()
    assert len(heard) < 200_000
    if heard:  # the connection may have been reset before
        assert heard.split()[1] == status
    if heard and status != b"200":
        error = json.loads(heard.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1")[0])["error"]
        assert len(error) < 300
        assert "\n" not in error
    assert client.health(harness.workspace) is not None


def test_no_connection_is_a_traceback_or_takes_memory(harness: Harness) -> None:
    wait_until(lambda: client.health(harness.workspace))
    said = (harness.workspace.root.parent / "daemon-output.txt").read_text()
    assert "Traceback" not in said
    assert peak_megabytes(harness) < 300
