"""Pulling from another daemon over HTTP: resumed, verified, and nothing unexpected."""

import errno
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.errors import UserError
from curation.locks import locked
from distill.cli.main import app
from distill.daemon import remote_bundle
from distill.daemon.remote_bundle import fetch
from distill.export.checksums import write_sums
from tests.distill.daemon.test_daemon_delivery import files_of_a_bundle, make_bundle

PLACE = "/jobs/sample/bundle/"
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"

Answer = Callable[[bytes], bytes]
"""Maps the content of a file to headers and body"""


def with_length(length: int, body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (length, body)


WRONG_ANSWERS: dict[str, Answer] = {
    "cut": lambda content: with_length(len(content), content[: len(content) // 2]),
    "cut-without-length": lambda content: b"\r\n" + content[: len(content) // 2],
    "length-too-small": lambda content: with_length(len(content) - 9, content),
    "length-too-large": lambda content: with_length(len(content) + 9, content),
    "length-negative": lambda content: with_length(-1, content),
    "chunk-cut": lambda content: b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + content[:9],
    "empty": lambda content: with_length(0, b""),
    "page": lambda content: with_length(len(PAGE), PAGE),
}


class Elsewhere(ThreadingHTTPServer):
    """Serves a folder like a daemon's pages, and misbehaves on request."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.token = "secret"
        self.breaks_after: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.ranges = True
        self.endless: str | None = None
        self.status: int | None = None
        self.answers: dict[str, Answer] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jobs/sample"


class Handler(BaseHTTPRequestHandler):
    server: Elsewhere

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.removeprefix(PLACE)
        self.server.asked.append((name, self.headers.get("Range")))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.send_error(401)
            return
        if self.server.status is not None:
            self.send_response(self.server.status)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
            return
        if name == self.server.endless:
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"x" * (1 << 20))
        if not (self.server.folder / name).is_file():
            self.send_error(404)
            return
        content = (self.server.folder / name).read_bytes()
        if name in self.server.answers:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + self.server.answers[name](content))
            return
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(found[1]) if found and self.server.ranges else 0
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if name in self.server.breaks_after:
            rest = rest[: self.server.breaks_after[name]]
        self.wfile.write(rest)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    folder = make_bundle(tmp_path / "there", files_of_a_bundle(**{"model.onnx": bytes(300_000)}))
    server = Elsewhere(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "here" / "student"


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_bundle_is_copied_whole_without_leftovers(elsewhere: Elsewhere, target: Path):
    assert fetch(elsewhere.url, target, "secret")
    assert listing(target) == listing(elsewhere.folder)
    assert list(target.parent.iterdir()) == [target]
    assert not fetch(elsewhere.url, target, "secret")


def test_the_command_takes_a_page_and_a_token(elsewhere: Elsewhere, target: Path, tmp_path: Path):
    (tmp_path / "token").write_text("secret\n")
    words = ["pull", elsewhere.url, str(target), "--token-file", str(tmp_path / "token"), "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(done.stdout)["written"] is True
    assert (target / "config.json").is_file()


def test_an_interrupted_download_is_resumed(elsewhere: Elsewhere, target: Path):
    elsewhere.breaks_after = {"model.onnx": 70_000}
    with pytest.raises(
        UserError,
        match=r"at model\.onnx; run the same command again to continue "
        r"there",
    ):
        fetch(elsewhere.url, target, "secret")
    assert not target.exists()
    elsewhere.breaks_after, elsewhere.asked = {}, []
    assert fetch(elsewhere.url, target, "secret")
    assert ("model.onnx", "bytes=210000-") in elsewhere.asked
    assert "config.json" not in [name for name, _ in elsewhere.asked]
    assert listing(target) == listing(elsewhere.folder)


def test_a_connection_that_breaks_once_is_taken_up_at_once(elsewhere: Elsewhere, target: Path):
    elsewhere.breaks_after = {"model.onnx": 160_000}
    assert fetch(elsewhere.url, target, "secret")
    assert ("model.onnx", "bytes=160000-") in elsewhere.asked


def test_a_server_without_ranges_sends_all_again(elsewhere: Elsewhere, target: Path):
    elsewhere.breaks_after = {"model.onnx": 70_000}
    with pytest.raises(UserError):
        fetch(elsewhere.url, target, "secret")
    elsewhere.breaks_after, elsewhere.ranges = {}, False
    assert fetch(elsewhere.url, target, "secret")


def test_a_different_bundle_at_the_destination_starts_again(elsewhere: Elsewhere, target: Path):
    elsewhere.breaks_after = {"model.onnx": 70_000}
    with pytest.raises(UserError):
        fetch(elsewhere.url, target, "secret")
    make_bundle(elsewhere.folder, files_of_a_bundle(**{"model.onnx": b"1" * 300_000}))
    elsewhere.breaks_after = {}
    assert fetch(elsewhere.url, target, "secret")
    assert (target / "model.onnx").read_bytes() == b"1" * 300_000


@pytest.mark.parametrize("token", ["wrong", None, ""])
def test_a_wrong_token_is_refused(elsewhere: Elsewhere, target: Path, token: str | None):
    with pytest.raises(UserError, match="does not belong to the other workspace"):
        fetch(elsewhere.url, target, token)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "no such job"), (303, "the token"), (302, "redirects elsewhere"), (500, "answers 500")],
)
def test_a_refusal_says_what_is_wrong(elsewhere: Elsewhere, target: Path, status: int, words: str):
    elsewhere.status = status
    with pytest.raises(UserError, match=words):
        fetch(elsewhere.url, target, "secret")
    assert not target.exists()


def test_a_wrong_checksum_is_fetched_again_next_time(elsewhere: Elsewhere, target: Path):
    good = (elsewhere.folder / "model.onnx").read_bytes()
    (elsewhere.folder / "model.onnx").write_bytes(b"x" + good[1:])
    with pytest.raises(UserError, match=r"model\.onnx: its SHA-256 differs"):
        fetch(elsewhere.url, target, "secret")
    assert not target.exists()
    (elsewhere.folder / "model.onnx").write_bytes(good)
    assert fetch(elsewhere.url, target, "secret")


@pytest.mark.parametrize("name", ["SHA256SUMS", "config.json", "README.md"])
def test_no_file_is_larger_than_a_bundles_may_be(elsewhere: Elsewhere, target: Path, name: str):
    elsewhere.endless = name
    with pytest.raises(UserError, match=f"{re.escape(name)} has more than the"):
        fetch(elsewhere.url, target, "secret")


@pytest.mark.parametrize("answer", WRONG_ANSWERS)
@pytest.mark.parametrize("name", ["SHA256SUMS", "SHA256SUMS.sig", "config.json", "model.onnx"])
def test_a_wrong_answer_is_refused_and_forgotten(
    elsewhere: Elsewhere, target: Path, name: str, answer: str
):
    (elsewhere.folder / "SHA256SUMS.sig").write_bytes(bytes(64))
    elsewhere.answers = {name: WRONG_ANSWERS[answer]}
    with pytest.raises(UserError, match=f"{re.escape(elsewhere.url)}.*{re.escape(name)}") as error:
        fetch(elsewhere.url, target, "secret")
    assert str(target.parent) not in str(error.value)
    assert not target.exists()
    elsewhere.answers = {}
    assert fetch(elsewhere.url, target, "secret")
    assert listing(target) == listing(elsewhere.folder)


def test_the_page_of_another_program_is_called_so(elsewhere: Elsewhere, target: Path):
    elsewhere.answers = dict.fromkeys(listing(elsewhere.folder), WRONG_ANSWERS["page"])
    with pytest.raises(UserError, match=f"{elsewhere.url}/SHA256SUMS is a web page"):
        fetch(elsewhere.url, target, "secret")
    assert [name for name, _ in elsewhere.asked] == ["SHA256SUMS"]


@pytest.mark.parametrize("change", ["missing", "more"])
def test_a_wrong_list_is_refused_before_the_networks(elsewhere, target: Path, change: str):
    sums = elsewhere.folder / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(lines[:-1] if change == "missing" else [*lines, f"{'0' * 64}  more"]))
    words = "does not list thresholds.json" if change == "missing" else "'more' is not a file of a"
    with pytest.raises(UserError, match=f"{elsewhere.url}.*{words}"):
        fetch(elsewhere.url, target, "secret")
    assert "model.onnx" not in [name for name, _ in elsewhere.asked]


def test_a_file_that_is_too_large_does_not_stay(elsewhere: Elsewhere, target: Path):
    elsewhere.endless = "README.md"
    with pytest.raises(UserError, match="has more than the"):
        fetch(elsewhere.url, target, "secret")
    assert "README.md" not in listing(target.parent / ".student.download")


class TestSlowServers:
    """Each byte comes in time, but nothing is ever complete."""

    @pytest.fixture
    def slow(self, monkeypatch) -> Callable[[bytes, bytes], str]:
        """The URL of a server that sends the first bytes, then the others again and again."""
        monkeypatch.setattr(remote_bundle, "SECONDS", 2.0)  # a busy machine pauses the server
        monkeypatch.setattr(remote_bundle, "ANSWER_SECONDS", 0.5)
        monkeypatch.setattr(remote_bundle, "ATTEMPTS", 2)

        def serve(first: bytes, again: bytes) -> str:
            server = socket.create_server(("127.0.0.1", 0))

            def run() -> None:
                for _ in range(remote_bundle.ATTEMPTS):
                    with server.accept()[0] as peer, suppress(OSError):
                        peer.sendall(first)
                        while True:
                            peer.sendall(again)
                            time.sleep(0.01)
                server.close()

            threading.Thread(target=run, daemon=True).start()
            return f"http://127.0.0.1:{server.getsockname()[1]}/jobs/sample"

        return serve

    @pytest.mark.parametrize(
        ("first", "again", "words"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"a", "only .* bytes in"),
            (b"HTTP/1.1 200 OK\r\nX: ", b"a", "no answer in 0.5 s"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "no answer in 0.5 s"),
        ],
        ids=["body", "header", "interim-answers"],
    )
    def test_servers_that_send_too_slowly_are_given_up(
        self, slow, target: Path, first: bytes, again: bytes, words: str
    ):
        with pytest.raises(UserError, match=f"{words}.* at SHA256SUMS; run the same command"):
            fetch(slow(first, again), target, None)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a\\b"])
def test_names_that_lead_out_are_refused(elsewhere: Elsewhere, target: Path, name: str):
    sums = elsewhere.folder / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{'0' * 64}  {name}\n")
    with pytest.raises(UserError, match="leaves the bundle"):
        fetch(elsewhere.url, target, "secret")


def test_a_list_without_a_file_of_the_config_is_refused(elsewhere: Elsewhere, target: Path):
    sums = elsewhere.folder / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if "model.onnx" not in line))
    with pytest.raises(UserError, match=r"does not list model\.onnx"):
        fetch(elsewhere.url, target, "secret")


def test_two_at_a_time_do_not_mix(elsewhere: Elsewhere, target: Path):
    partial = target.with_name(".student.download")
    partial.mkdir(parents=True)
    with locked(partial), pytest.raises(UserError, match="another process is writing"):
        fetch(elsewhere.url, target, "secret")
    assert fetch(elsewhere.url, target, "secret")


def test_a_full_disk_leaves_no_half_bundle(elsewhere: Elsewhere, target: Path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            fetch(elsewhere.url, target, "secret")
    assert not target.exists()
    assert fetch(elsewhere.url, target, "secret")


def test_another_bundle_at_the_destination_stays(elsewhere: Elsewhere, target: Path):
    make_bundle(target, files_of_a_bundle(**{"README.md": b"another"}))
    with pytest.raises(UserError, match="--force"):
        fetch(elsewhere.url, target, "secret")
    assert (target / "README.md").read_bytes() == b"another"
    assert fetch(elsewhere.url, target, "secret", force=True)


def test_a_second_pull_transfers_only_what_changed(elsewhere: Elsewhere, target: Path):
    assert fetch(elsewhere.url, target, "secret")
    elsewhere.asked.clear()
    assert not fetch(elsewhere.url, target, "secret")
    (elsewhere.folder / "README.md").write_text("another card")
    (elsewhere.folder / "SHA256SUMS").unlink()
    write_sums(elsewhere.folder)
    assert fetch(elsewhere.url, target, "secret", force=True)
    always = ["SHA256SUMS", "SHA256SUMS.sig"]
    assert [name for name, _ in elsewhere.asked] == [*always, *always, "README.md"]
    assert (target / "README.md").read_text() == "another card"


@pytest.mark.parametrize("before", ["a file", "another bundle", "own files"])
def test_a_bad_destination_is_refused_before_the_download(elsewhere, target, before: str):
    if before == "a file":
        target.parent.mkdir()
        target.write_text("years of work")
    else:
        make_bundle(target, files_of_a_bundle(**{"model.onnx": b"other"}))
    if before == "own files":
        (target / "notes.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"not a bundle|--force|'notes\.txt'"):
        fetch(elsewhere.url, target, "secret", force=before != "another bundle")
    assert [name for name, _ in elsewhere.asked] == ["SHA256SUMS"]


def test_a_token_does_not_travel_in_the_open(target: Path):
    with pytest.raises(UserError, match="would expose the token"):
        fetch("http://gpu1.example:8642/jobs/sample", target, "secret")


@pytest.mark.parametrize(
    "url",
    ["http://", "http://h", "http://h/sample", "https://u@h/jobs/a", "https://h/jobs/a?b=1",
     "https://h:99999999/jobs/a", "https://[::1/jobs/a", "https://h/jobs/..", "https://h/jobs/A%20"],
)  # fmt: skip
def test_an_address_that_is_not_a_job_page_is_refused(target: Path, url: str):
    with pytest.raises(UserError):
        fetch(url, target, "secret")
    assert not target.parent.exists()


def test_a_missing_daemon_is_reported(target: Path):
    with pytest.raises(UserError, match="run the same command again to continue there"):
        fetch("http://127.0.0.1:9/jobs/sample", target, "secret")


def test_the_sums_are_of_what_was_sent(elsewhere: Elsewhere, target: Path):
    fetch(elsewhere.url, target, "secret")
    expected = hashlib.sha256((elsewhere.folder / "model.onnx").read_bytes()).hexdigest()
    assert f"{expected}  model.onnx" in (target / "SHA256SUMS").read_text()
    assert remote_bundle.job_of(elsewhere.url) == "sample"
