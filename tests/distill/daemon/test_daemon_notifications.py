"""Notifications about ended jobs, to a program or a web address; nothing waits for them."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from test_daemon_commands import Ran

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import notifications
from distill.daemon.notifications import Notify, notifying, take_failure
from distill.daemon.opening import open_queue
from distill.daemon.outcome import Outcome
from distill.daemon.queue import Queue
from distill.daemon.states import Event
from tests.distill.daemon.harness import Harness, spec, wait_until

ENDS = {
    "done": Outcome(event=Event.SUCCEED, exit_status=0),
    "failed": Outcome(event=Event.FAIL, reason="the loss is not finite", hint="lower the rate"),
}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.setattr(notifications, "LOOK_SECONDS", 0.02)
    with open_queue(Workspace(tmp_path)) as opened:
        yield opened


def end(queue: Queue, name: str, how: str) -> None:
    queue.submit(name, spec(name), 1.0)
    queue.claim(2.0)
    queue.settle(name, 1, lambda cancelled: ENDS[how], 3.0)


@pytest.fixture
def heard() -> Iterator[list[dict[str, object]]]:
    yield from _serving([])


def _serving(heard: list[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    class Hears(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *about: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hears)
    heard.append({"port": server.server_port})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_hears_of_each_end(queue: Queue, heard: list, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{heard.pop()['port']}/ends?x=1"
    end(queue, "before", "done")
    with notifying(Notify(webhook=address), queue, Workspace(tmp_path)):
        queue.submit("waits", spec("waits"), 1.0)
        queue.request_cancel("waits", 2.0)
        end(queue, "a", "done")
        end(queue, "b", "failed")
        wait_until(lambda: len(heard) == 3)
    told = [(each["name"], each["state"], each["reason"]) for each in heard]
    assert told == [
        ("waits", "cancelled", "cancelled by the user"),
        ("a", "done", None),
        ("b", "failed", "the loss is not finite"),
    ]
    assert heard[2]["hint"] == "lower the rate"
    assert heard[2]["started_at"] == "1970-01-01T00:00:02+00:00"
    assert heard[0]["started_at"] is None
    assert take_failure(Workspace(tmp_path)) is None


def test_a_program_gets_each_end_on_its_input_and_no_shell(queue: Queue, tmp_path: Path) -> None:
    program = tmp_path / "a program; touch x"
    program.write_text(f'#!/bin/sh\ncat > "{tmp_path}/$1.json"\n')
    program.chmod(0o755)
    with notifying(Notify(command=f"'{program}' '$HOME;x'"), queue, Workspace(tmp_path)):
        end(queue, "a", "done")
        wait_until(lambda: (tmp_path / "$HOME;x.json").exists())
        wait_until(lambda: (tmp_path / "$HOME;x.json").read_text().endswith("}"))
    told = json.loads((tmp_path / "$HOME;x.json").read_text())
    assert (told["name"], told["state"], told["workspace"]) == ("a", "done", str(tmp_path))
    assert not (tmp_path / "x").exists()


def test_a_hanging_receiver_is_abandoned_without_waiting(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "PATIENCE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        with notifying(Notify(webhook=address), queue, Workspace(tmp_path)):
            began = time.monotonic()
            for number in range(100):
                end(queue, f"j{number}", "done")
            assert time.monotonic() - began < 30, "waiting for each would take 50 s"
            wait_until(lambda: (tmp_path / "daemon" / notifications.FAILED).exists())
    shown = Ran(Workspace(tmp_path), "status")
    assert "warning: could not notify of the end of a job: " in shown.stderr
    assert "could not notify" not in Ran(Workspace(tmp_path), "status").stderr


def test_an_answer_of_endless_headers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"

        def answer() -> None:
            with server.accept()[0] as peer, suppress(OSError):
                peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    peer.sendall(b"a")
                    time.sleep(0.01)

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setattr(notifications, "PATIENCE_SECONDS", 0.3)
        with pytest.raises(OSError, match=r"no answer in 0\.3 s"):
            Notify(webhook=address).send("{}")


@pytest.mark.parametrize("code", ["raise SystemExit('no \\udcff')", "import time; time.sleep(99)"])
def test_a_program_that_fails_is_reported_once(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(notifications, "PATIENCE_SECONDS", 0.5)
    notify = Notify(command=f'{sys.executable} -S -c "{code}"')
    with notifying(notify, queue, Workspace(tmp_path)):
        end(queue, "a", "done")
        wait_until(lambda: (tmp_path / "daemon" / notifications.FAILED).exists())
    said = take_failure(Workspace(tmp_path))
    assert said is not None
    assert "ended with status 1" in said or "took longer than 0.5 s" in said
    assert take_failure(Workspace(tmp_path)) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"command": "no-such-program x"}, "'no-such-program' is not an executable"),
        ({"command": "'"}, "cannot be split"),
        ({"command": ""}, "'' is not an executable"),
        ({"webhook": "ftp://host/"}, "not an address"),
        ({"webhook": "host/path"}, "not an address"),
        ({"webhook": "http://a b/"}, "not an address"),
        ({"webhook": "http://[::1"}, "not an address"),
        ({"webhook": "http://host:99999/"}, "not an address"),
        ({"webhook": "file:///etc/passwd"}, "not an address"),
    ],
)
def test_an_unusable_notification_is_refused_at_the_start(
    options: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        Notify(**options)


def test_the_command_refuses_before_it_serves(harness: Harness) -> None:
    error = Ran(harness.workspace, "serve", "--notify-webhook", "nowhere").error
    assert "'nowhere' is not an address" in error
    assert not harness.workspace.daemon.exists()
