"""The HTTP API on the daemon's socket, used by a real client."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from distill.daemon.address import SOCKET
from distill.daemon.states import State
from distill.spec_source import LARGEST_SPEC
from tests.distill.daemon.harness import Harness, spec


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Api"]:
    harness = Harness(tmp_path_factory.mktemp("api") / "workspace")
    harness.start()
    transport = httpx.HTTPTransport(uds=str(harness.workspace.daemon / SOCKET))
    with httpx.Client(transport=transport, base_url="http://daemon", timeout=30) as http:
        yield Api(harness, http)
    harness.clean_up()


class Api:
    """A daemon and a connection to it."""

    def __init__(self, harness: Harness, http: httpx.Client) -> None:
        self.harness = harness
        self.http = http

    def submit(self, name: str, code: str = "pass", replace: bool = False) -> httpx.Response:
        return self.http.post(
            "/jobs", content=spec(name, code).encode(), params={"replace": replace}
        )


def test_health_names_the_daemon_and_its_workspace(api: Api) -> None:
    health = api.http.get("/health").json()
    assert health["pid"] == api.harness.daemon.pid  # type: ignore[union-attr]
    assert health["workspace"] == str(api.harness.workspace.root)
    assert health["slots"] == 1
    assert set(health["jobs"]) == {state.value for state in State}


def test_a_submitted_job_can_be_seen_to_its_end(api: Api) -> None:
    submitted = api.submit("seen", "print('hello')")
    assert submitted.status_code == 200
    assert submitted.json()["answer"] == "queued"
    api.harness.wait_for("seen", State.DONE)
    shown = api.http.get("/jobs/seen").json()
    assert (shown["state"], shown["attempt"], shown["exit_status"]) == ("done", 1, 0)
    assert shown in api.http.get("/jobs").json()
    assert api.submit("seen", "print('hello')").json()["answer"] == "already done"


def test_a_cancel_is_noted_at_once(api: Api) -> None:
    api.submit("long", "import time; time.sleep(100)")
    api.harness.wait_for("long", State.RUNNING)
    assert api.http.post("/jobs/long/cancel").json()["cancel_requested"]
    job = api.harness.wait_for("long", State.CANCELLED)
    assert job.reason == "cancelled by the user"


def test_the_log_is_read_in_pieces(api: Api) -> None:
    api.submit("talker", "print('first'); print('second')")
    api.harness.wait_for("talker", State.DONE)
    text, offset = b"", 0
    while piece := api.http.get("/jobs/talker/log", params={"offset": offset}):
        if not piece.content:
            break
        text, offset = text + piece.content, int(piece.headers["X-Next-Offset"])
    assert text == (api.harness.run("talker") / "log.txt").read_bytes()
    end = api.http.get("/jobs/talker/log", params={"offset": -10}).content
    assert end == text[-10:]
    beyond = api.http.get("/jobs/talker/log", params={"offset": 10**9})
    assert beyond.content == b""


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 422, "no name"),
        (b"not = = toml", 422, "not TOML"),
        (b"\xff\xfe", 422, "not UTF-8"),
        (b"a = 1", 422, "no name"),
        (b"x = " + b"[" * 5000 + b"]" * 5000, 422, "nested too deeply"),
        (b"x" * (LARGEST_SPEC + 1), 413, "at most 64 KiB"),
        (b"x" * 100_000_000, 413, "at most 64 KiB"),
        *(
            (f"name = {name!r}".encode(), 422, "is not a job name")
            for name in ("..", "../up", "a/b", ".hidden", "Upper", "", "a" * 65, "ümlaut", "a b")
        ),
        (b'name = "a\\n"', 422, "is not a job name"),
        (b'name = "a\\u0000"', 422, "is not a job name"),
        (b"name = 3", 422, "is not a job name"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_a_hostile_spec_is_refused_in_one_line(
    api: Api, body: bytes, status: int, words: str
) -> None:
    before = api.http.get("/jobs").json()
    try:
        answer = api.http.post("/jobs", content=body)
    except (httpx.WriteError, httpx.ReadError):
        # The daemon closed the connection before the rest of a body that it had already refused.
        assert len(body) > LARGEST_SPEC
    else:
        assert answer.status_code == status
        assert words in answer.json()["error"]
        assert "\n" not in answer.json()["error"]
    assert api.http.get("/jobs").json() == before


def test_a_body_without_an_announced_length_is_cut_off(api: Api) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
        assert api.http.post("/jobs", content=endless()).status_code == 413
    assert api.http.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/jobs/nobody", "/jobs/nobody/log"])
def test_a_missing_job_is_404(api: Api, path: str) -> None:
    answer = api.http.get(path)
    assert answer.status_code == 404
    assert "no job 'nobody'" in answer.json()["error"]


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fsecret", "..%2f..%2fetc%2fpasswd", "%00", "A"])
def test_names_cannot_leave_the_run_folders(api: Api, name: str) -> None:
    assert api.http.get(f"/jobs/{name}/log").status_code in (404, 422)


def test_another_spec_under_a_taken_name_needs_replace(api: Api) -> None:
    api.submit("taken", "print('one')")
    api.harness.wait_for("taken", State.DONE)
    refused = api.submit("taken", "print('two')")
    assert refused.status_code == 409
    assert "--replace" in refused.json()["error"]
    assert api.submit("taken", "print('two')", replace=True).json()["answer"] == "replaced"
    api.harness.wait_for("taken", State.DONE)
    aside = api.harness.workspace.runs / "taken.old-1"
    assert "one" in (aside / "log.txt").read_text()
    assert "two" in (api.harness.run("taken") / "log.txt").read_text()


def test_a_held_job_starts_when_it_is_resumed(api: Api) -> None:
    asked: dict[str, str | int] = {"hold": True, "priority": 5, "label": "sweep/1"}
    told = api.http.post("/jobs", content=spec("held"), params=asked).json()["job"]
    assert (told["held"], told["priority"], told["label"]) == (True, 5, "sweep/1")
    assert told["waiting_for"] == "held: `distill resume held`"
    assert [job["name"] for job in api.http.get("/jobs?label=sweep/1").json()] == ["held"]
    assert api.http.get("/jobs?label=sweep/1&state=done").json() == []
    assert api.http.post("/jobs/held/resume").json()["held"] is False
    api.harness.wait_for("held", State.DONE)
    assert api.http.post("/jobs/held/pause").status_code == 409


def test_a_drained_daemon_starts_nothing(api: Api) -> None:
    assert api.http.post("/drain").json()["drained"] is True
    waiting = api.http.post("/jobs", content=spec("drained")).json()["job"]["waiting_for"]
    assert waiting == "the end of the drain: `distill undrain`"
    assert api.http.post("/undrain").json()["drained"] is False
    api.harness.wait_for("drained", State.DONE)
    assert api.http.post("/jobs/drained/retry").status_code == 409


@pytest.mark.parametrize(
    "asked", [{"priority": "1001"}, {"priority": "9" * 30}, {"label": "a\x1bb"}]
)
def test_a_place_out_of_range_is_refused(api: Api, asked: dict[str, str]) -> None:
    assert api.http.post("/jobs", content=spec("x"), params=asked).status_code == 422


@pytest.mark.parametrize(
    ("path", "sent", "said"),
    [
        ("/cancel?labl=x", {}, "unknown parameter 'labl'; allowed here: label, force"),
        ("/jobs/x/pause?force=1", {}, "unknown parameter 'force'; allowed here: none"),
        ("/cancel", {"json": {"label": "x"}}, "requests do not take JSON"),
    ],
    ids=["misspelt", "elsewhere", "json"],
)
def test_unusable_api_input_is_refused(
    api: Api, path: str, sent: dict[str, Any], said: str
) -> None:
    answer = api.http.post(path, **sent)
    assert answer.status_code == 422
    assert said in answer.json()["error"]


def test_the_api_describes_itself(api: Api) -> None:
    described = api.http.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/cancel",
        "/drain",
        "/health",
        "/jobs",
        "/jobs/{name}",
        "/jobs/{name}/cancel",
        "/jobs/{name}/move",
        "/jobs/{name}/pause",
        "/jobs/{name}/log",
        "/jobs/{name}/provenance",
        "/jobs/{name}/resume",
        "/jobs/{name}/retry",
        "/undrain",
        "/wake",
    }
    for path in described["paths"].values():
        assert all(operation.get("description") for operation in path.values())


@pytest.mark.parametrize(
    "words", [b"", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /jobs HTTP/1.1\r\n"]
)
def test_a_client_that_speaks_no_http_does_no_harm(api: Api, words: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as strange:
        strange.connect(str(api.harness.workspace.daemon / SOCKET))
        strange.sendall(words)
    assert api.http.get("/health").status_code == 200


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take another user's identity")
def test_another_user_is_refused_even_with_open_modes(api: Api) -> None:
    folder = api.harness.workspace.daemon
    opened = [folder, folder / SOCKET]
    modes = {path: path.stat().st_mode for path in opened}
    code = f"""
import os, socket
folder = os.open({str(folder)!r}, os.O_PATH)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
peer.connect(f"/proc/self/fd/{{folder}}/{SOCKET}")
try:
    peer.sendall(b"GET /health HTTP/1.1\\r\\nHost: daemon\\r\\n\\r\\n")
    print(len(peer.recv(100)))
except OSError:
    print(0)
"""
    try:
        for path in opened:
            path.chmod(0o777)
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    finally:
        for path, mode in modes.items():
            path.chmod(mode & 0o7777)
    assert told.stdout.strip() == "0", told.stderr
