"""Access to the pages, tested with real clients."""

import asyncio
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon.http_thread import listening
from distill.web import guard, keys
from distill.web.app import answer_errors
from distill.web.keys import Keys
from distill.web.limits import RateLimit
from distill.web.settings import web_settings
from distill.web.site import PageMaker, static_address
from tests.distill.web.pages_harness import Pages

HTML = {"Accept": "text/html"}


@contextmanager
def signed(pages: Pages) -> Iterator[httpx.Client]:
    with pages.http() as http:
        assert http.get(pages.link()).status_code == 303
        yield http


def test_a_stranger_is_asked_to_sign_in(pages: Pages) -> None:
    with pages.http() as http:
        shown = http.get("/", headers=HTML)
        assert (shown.status_code, shown.headers["location"]) == (303, "/sign-in")
        for path in ("/", "/api/jobs", "/events/queue", "/docs"):
            assert http.get(path).status_code == 401
        assert http.post("/api/drain", headers={"Origin": pages.url}).status_code == 401
        assert http.get("/sign-in").status_code == 200


def test_a_link_signs_in_once(pages: Pages) -> None:
    link = pages.link("/docs")
    with pages.http() as first, pages.http() as second:
        answer = first.get(link)
        assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert first.get("/").status_code == 200
        again = second.get(link)
        assert again.status_code == 403
        assert "already used" in again.text
        assert second.get("/").status_code == 401


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "x"])
def test_a_link_redirects_to_no_other_site(pages: Pages, to: str) -> None:
    with pages.http() as http:
        assert http.get(pages.link(to)).headers["location"] == "/"


def test_the_token_signs_a_person_and_a_program_in(pages: Pages) -> None:
    assert (pages.workspace.daemon / keys.TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    own = {"Origin": pages.url}
    with pages.http() as http:
        assert http.post("/sign-in", data={"token": "x"}, headers=own).status_code == 403
        assert http.post("/sign-in", data={"token": pages.token}, headers=own).status_code == 303
        assert http.get("/").status_code == 200
        out = http.post("/sign-out", headers=own)
        assert out.status_code == 303
        assert http.get("/").status_code == 401
    with pages.program() as http:
        assert http.get("/api/health").json()["workspace"] == str(pages.workspace.root)


def test_a_session_survives_a_kill_of_the_server(pages: Pages) -> None:
    with signed(pages) as http:
        before, old_link = pages.url, pages.link()
        pages.stop(signal.SIGKILL)
        pages.start()
        address = httpx.URL(pages.url)
        http.base_url = address
        assert http.get("/").status_code == 200
        assert before.startswith("http://127.0.0.1:")
        assert http.get("/sign-in", params=httpx.URL(old_link).params).status_code == 403


def test_another_host_or_origin_is_refused(pages: Pages) -> None:
    with signed(pages) as http:
        rebound = http.get("/", headers={"Host": "evil.example"})
        assert rebound.status_code == 421
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", ""):
            foreign = http.post("/api/drain", headers={"Origin": origin})
            assert (foreign.status_code, "another site" in foreign.text) == (403, True)
        assert http.post("/api/undrain").status_code == 403  # browsers always send the header
        assert http.post("/api/undrain", headers={"Origin": pages.url}).status_code == 200
        port = httpx.URL(pages.url).port
        assert http.get("/", headers={"Host": f"localhost:{port}"}).status_code == 200


def test_a_body_is_refused_before_it_is_read(pages: Pages) -> None:
    with pages.program() as http:
        large = b"x" * (guard.LARGEST_BODY + 1)
        assert http.post("/api/jobs", content=large).status_code == 413
        assert http.post("/api/jobs", content=iter([large[:70_000]])).status_code == 413
        with signed(pages) as person:
            own = {"Origin": pages.url}
            refused = person.post("/sign-in", content=iter([large]), headers=own)
            assert refused.status_code == 400


def test_every_answer_has_the_headers(pages: Pages) -> None:
    script = static_address("pages.js")
    with signed(pages) as http:
        for path in ("/", "/nothing", "/sign-in", "/docs", "/api/jobs", script):
            headers = http.get(path, headers=HTML).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert "server" not in headers
        assert http.get("/api/jobs").headers["cache-control"] == "no-store"
        assert "immutable" in http.get(script).headers["cache-control"]
        folder = script.removesuffix("pages.js")
        for outside in ("../app.py", "../../app.py", "%2e%2e/app.py", "vendor", "../old/pages.js"):
            answer = http.get(folder + outside, follow_redirects=True)
            assert answer.status_code == 404


def test_no_page_names_another_host(pages: Pages) -> None:
    with signed(pages) as http:
        for path in ("/", "/docs", "/sign-in", "/nothing"):
            loaded = re.findall(r'(?:src|href|action)="([^"]*)"', http.get(path, headers=HTML).text)
            assert loaded
            assert [address for address in loaded if not re.match(r"/(?!/)|#", address)] == []
        assert http.get("/api/docs").status_code == 404


def test_an_error_is_a_page_or_a_line(pages: Pages) -> None:
    with signed(pages) as http:
        page = http.get("/<script>alert(1)</script>", headers=HTML)
        assert (page.status_code, "<script>alert" in page.text) == (404, False)
        assert "Not found" in page.text
        assert "error" in http.get("/?page=x").json()
        assert http.get("/api/jobs/none").json()["error"].startswith("there is no job 'none'")


def test_requests_and_guesses_have_a_limit(pages: Pages) -> None:
    now = [0.0]
    limit = RateLimit(3, 0.5, lambda: now[0])
    assert [limit.allows("a") for _ in range(5)] == [True, True, True, False, False]
    assert limit.allows("b")
    now[0] = 4.0
    assert [limit.allows("a") for _ in range(3)] == [True, True, False]
    for who in range(5000):
        limit.allows(str(who))
    assert len(limit._left) <= 1000
    with pages.http() as http:
        own = {"Origin": pages.url}
        tried = [http.post("/sign-in", data={"token": "x"}, headers=own) for _ in range(12)]
        assert tried[-1].status_code == 429


def test_signatures_are_valid_for_their_kind_and_time() -> None:
    now = [1000.0]
    signer = Keys("token", "start", lambda: now[0])
    other = Keys("another token", "start", lambda: now[0])
    link, session = signer.link(), signer.session()
    assert signer.is_session(session)
    assert not signer.is_session(link)
    assert not signer.take_link(session)
    assert not other.is_session(session)
    assert not Keys("token", "later", lambda: now[0]).take_link(link)
    for broken in ("", "1.2.3", session[:-1], session.replace(".", ".x", 1), "9" + session):
        assert not signer.is_session(broken)
    assert not signer.is_token("token ")
    assert not signer.is_token("töken\ud800")
    now[0] += keys.LINK_SECONDS + 1
    assert not signer.take_link(link)
    now[0] += keys.SESSION_SECONDS
    assert not signer.is_session(session)


def test_one_of_two_browsers_gets_a_link() -> None:
    both = threading.Barrier(2)

    class Time(float):
        """Waits for the other browser before its link is noted as used."""

        def __add__(self, seconds: float) -> float:
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            return float(self) + seconds

    link = Keys("token", "start", lambda: 1000.0).link()
    signer = Keys("token", "start", lambda: Time(1000.0))
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(signer.take_link, [link, link])) == [False, True]


@pytest.mark.parametrize(
    ("text", "mode", "fault"),
    [
        ("x" * 43, 0o600, "has changed since the daemon began"),
        ("", 0o600, "holds no token"),
        (None, 0o600, "No such file"),
        ("x" * 43, 0o644, "others can read"),
    ],
    ids=["replaced", "empty", "removed", "readable by others"],
)
def test_no_link_is_made_with_a_token_the_daemon_lacks(
    pages: Pages, text: str | None, mode: int, fault: str
) -> None:
    path = pages.workspace.daemon / keys.TOKEN_FILE
    token = path.read_text()
    path.unlink()
    try:
        if text is not None:
            path.write_text(text)
            path.chmod(mode)
        with pytest.raises(UserError, match=f"{fault}.*for a new token, remove this file, then"):
            pages.link()
    finally:
        path.write_text(token)
        path.chmod(0o600)
    pages.link()


def test_a_full_disk_leaves_no_file_without_a_token(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from distill.web.keys import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "workspace_token(Path(sys.argv[1]))\n"
    )
    failed = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True)
    assert b"OSError" in failed.stderr
    assert list(tmp_path.iterdir()) == []
    assert len(keys.workspace_token(tmp_path)) == 43


def test_a_token_readable_by_others_is_refused(tmp_path: Path) -> None:
    token = keys.workspace_token(tmp_path)
    path = tmp_path / keys.TOKEN_FILE
    assert keys.workspace_token(tmp_path) == token
    path.chmod(0o644)
    with pytest.raises(UserError, match=r"others can read .*web-token"):
        keys.workspace_token(tmp_path)
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(UserError, match="holds no token; remove it and run"):
        keys.workspace_token(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("0.0.0.0:80",), "would connect to it without TLS"),
        (("192.0.2.1:80", "http://faces.example.org"), "without TLS"),
        (("nowhere",), "is not an address"),
        (("127.0.0.1:99999",), "is not an address"),
        (("faces.example.org:80",), "is not an address"),
        ((None, "ftp://x"), "give the scheme"),
        ((None, "https://x/y"), "give the scheme"),
        ((None, None, Path("/no/such.pem")), "no such file to read"),
    ],
)
def test_an_invalid_address_is_refused(options: tuple, words: str) -> None:
    with pytest.raises(UserError, match=words):
        web_settings(*options)


def test_requested_addresses_and_names_are_used() -> None:
    usual = web_settings()
    assert (usual.host, usual.port, usual.any_port, usual.is_secure) == (
        "127.0.0.1", 8642, True, False,
    )  # fmt: skip
    assert web_settings("[::1]:0").host == "::1"
    assert web_settings("localhost:1").host == "127.0.0.1"
    assert web_settings(None, "http://my_box:80").url == "http://my_box"
    proxied = web_settings("0.0.0.0:80", "https://Faces.Example.org:443/")
    assert (proxied.url, proxied.is_secure) == ("https://faces.example.org", True)


def test_the_commands_print_links_to_the_pages(pages: Pages, tmp_path: Path) -> None:
    def distill(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "distill.cli.main", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    place = ["--workspace", str(pages.workspace.root)]
    pages.submit("shown")
    with pages.http() as http:
        for words, page in ((["--print"], "/"), (["shown", "--print"], "/jobs/shown")):
            answer = http.get(distill("open", *words, *place).stdout.strip())
            assert (answer.status_code, answer.headers["location"]) == (303, page)
        told = json.loads(distill("open", "--json", *place).stdout)
        assert http.get(told["url"]).status_code == 303
    nothing = distill("open", "--workspace", str(tmp_path))
    assert "`distill serve --web --background`" in nothing.stderr
    refused = distill("serve", "--web-address", "127.0.0.1:0", "--workspace", str(tmp_path))
    assert "needs --web" in refused.stderr


def test_tls_works_and_a_port_in_use_is_refused(tmp_path: Path) -> None:
    certificate = tmp_path / "both.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-keyout", "-", "-out", "-"],
        capture_output=True, check=True,
    )  # fmt: skip
    certificate.write_bytes(made.stdout)
    place = ["--workspace", str(tmp_path / "workspace")]
    command = [sys.executable, "-m", "distill.cli.main"]
    serve = [*command, "serve", "--web", *place, "--background"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = subprocess.run(
            [*serve, f"--web-address=127.0.0.1:{port}"], capture_output=True, text=True, check=False
        )
    assert f"--web-address 127.0.0.1:{port}: Address already in use" in refused.stderr
    secure = ["--web-address=127.0.0.1:0", f"--web-cert={certificate}"]
    subprocess.run([*serve, *secure], check=True, capture_output=True)
    try:
        told = subprocess.run(
            [*command, "open", "--print", *place], capture_output=True, text=True, check=True
        )
        trusted = ssl.create_default_context(cadata=made.stdout.decode())
        trusted.check_hostname = False
        with httpx.Client(verify=trusted) as http:
            answer = http.get(told.stdout.strip())
        assert answer.status_code == 303
        assert "Secure" in answer.headers["set-cookie"]
        assert "max-age" in answer.headers["strict-transport-security"]
    finally:
        subprocess.run([*command, "stop", *place], check=True, capture_output=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_answers_are_sent_at_once(host: str) -> None:
    """Without the 40 ms delay of Nagle's algorithm."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            found.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening(host, 0) as listener:
            server = await asyncio.start_server(meet, sock=listener)
            async with server:
                with socket.create_connection(listener.getsockname()[:2]):
                    return await found

    # Another test's browser may run an event loop in this thread.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(asyncio.run, accepted()).result() == 1


def test_a_server_error_is_a_page_for_people(tmp_path: Path) -> None:
    app = FastAPI()
    answer_errors(app, PageMaker(), Workspace(tmp_path))

    @app.get("/")
    def broken() -> None:
        raise RuntimeError("a secret")

    with TestClient(app, raise_server_exceptions=False) as http:
        page, line = http.get("/", headers=HTML), http.get("/")
    assert (page.status_code, line.status_code) == (500, 500)
    assert "That did not work" in page.text
    assert line.json() == {"error": "internal server error; see the end of the daemon's log"}
    assert "secret" not in page.text + line.text
