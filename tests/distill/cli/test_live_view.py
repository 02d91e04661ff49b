"""The full-screen views of the queue and of a job, and curves drawn with characters."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import numpy as np
import pytest

from curation.workspace import Workspace
from distill.cli.plots import braille, sparkline
from distill.daemon import client
from distill.daemon.names import Checked
from distill.daemon.states import State

SPEC = "name = '{name}'\ncode = ''\n"
PATIENCE = 60.0


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Three jobs in a queue that no daemon serves."""
    place = Workspace(tmp_path / "workspace")
    with client.changing(place, check=lambda spec: Checked()) as service:
        for name in ("first", "second", "third"):
            service.submit(name, SPEC.format(name=name))
    return place


class Terminal:
    """A command in its own terminal, of which the last screen is kept."""

    def __init__(
        self,
        workspace: Workspace,
        *command: str,
        lines: int = 30,
        columns: int = 100,
        term: str | None = "xterm",
    ) -> None:
        self.leader, follower = pty.openpty()
        ioctl(follower, TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "DISTILL_WORKSPACE": str(workspace.root)}
        for name in ("COLUMNS", "TERM"):
            environment.pop(name, None)
        if term is not None:
            environment["TERM"] = term
        self.process = subprocess.Popen(
            [sys.executable, "-m", "distill", *command],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment,
            start_new_session=True,
        )
        os.close(follower)
        self.text = ""

    def until(self, condition: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text[-3000:]
            if select.select([self.leader], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.leader, 1 << 16).decode(errors="replace")
                except OSError:
                    return

    def press(self, keys: str) -> None:
        self.text = ""
        os.write(self.leader, keys.encode())

    def end(self) -> int:
        self.until(lambda _: self.process.poll() is not None)
        os.close(self.leader)
        return self.process.wait(PATIENCE)


def test_the_queue_is_shown_and_keys_act_on_it(workspace: Workspace) -> None:
    terminal = Terminal(workspace, "status", "--live")
    terminal.until(lambda text: "third" in text and "first" in text and "q leave" in text)
    assert "\x1b[?1049h" in terminal.text  # the alternate screen
    terminal.press("p")
    terminal.until(lambda _: client.find_report(workspace, "third").held)
    terminal.press("j")
    terminal.press("c")
    terminal.until(lambda text: "cancel second?" in text)
    terminal.press("y")
    terminal.until(lambda _: client.find_job(workspace, "second").state is State.CANCELLED)
    terminal.press("q")
    assert terminal.end() == 0
    assert client.find_job(workspace, "first").state is State.QUEUED


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_leaves_the_terminal_as_it_was(workspace, number: int, status: int) -> None:
    terminal = Terminal(workspace, "status", "--live")
    terminal.until(lambda text: "third" in text and "q leave" in text)

    def takes_lines() -> bool:
        return bool(termios.tcgetattr(terminal.leader)[3] & termios.ICANON)

    assert not takes_lines()
    terminal.process.send_signal(number)
    terminal.until(lambda text: takes_lines() and "\x1b[?1049l" in text and "\x1b[?25h" in text)
    assert takes_lines()
    assert terminal.end() == status


@pytest.mark.parametrize(("lines", "columns"), [(16, 60), (24, 80)], ids=["60x16", "80x24"])
def test_a_small_screen_names_all_keys(workspace, lines: int, columns: int) -> None:
    terminal = Terminal(workspace, "status", "--live", lines=lines, columns=columns)
    terminal.until(lambda text: all(word in text for word in ("third", "leave", "undrain")))
    terminal.press("q")
    assert terminal.end() == 0


@pytest.mark.parametrize(("lines", "columns"), [(15, 100), (30, 59)], ids=["low", "narrow"])
def test_a_screen_that_is_too_small_shows_lines(workspace, lines: int, columns: int) -> None:
    terminal = Terminal(workspace, "status", "--live", lines=lines, columns=columns)
    assert terminal.end() == 0
    assert "third" in terminal.text
    assert "\x1b[?1049h" not in terminal.text


@pytest.mark.parametrize("leave", ["q", "Ctrl-C"])
def test_leaving_a_watched_job_says_that_it_continues(workspace, leave: str) -> None:
    terminal = Terminal(workspace, "watch", "first", "--live")
    terminal.until(lambda text: "q leave" in text)
    if leave == "q":
        terminal.press("q")
    else:
        terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "first continues" in terminal.text.partition("\x1b[?1049l")[2]


def test_a_terminal_without_a_name_gets_lines(workspace: Workspace) -> None:
    terminal = Terminal(workspace, "status", "--live", term=None)
    assert terminal.end() == 0
    assert "third" in terminal.text
    assert "\x1b" not in terminal.text


def test_a_page_and_records_at_once_are_refused(workspace: Workspace) -> None:
    terminal = Terminal(workspace, "status", "--live", "--json")
    terminal.until(lambda text: "give one of them" in text)
    assert terminal.end() == 1


def test_without_a_terminal_lines_are_printed(workspace: Workspace) -> None:
    environment = {**os.environ, "DISTILL_WORKSPACE": str(workspace.root)}
    command = [sys.executable, "-m", "distill", "status", "--live"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "third" in told.stdout
    assert "\x1b" not in told.stdout


def test_a_sparkline_is_as_high_as_the_means() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.0, 3.0], 8) == "▁▁"
    assert sparkline(list(range(800)), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([float("nan"), 1, float("inf"), 0], 8) == "█▁"
    assert sparkline([], 8) == ""


def test_a_braille_curve_has_a_dot_in_every_column() -> None:
    random = np.random.default_rng(2)
    for width, height in ((1, 1), (20, 2), (40, 3)):
        lines = braille(random.normal(size=500).tolist(), width, height)
        assert [len(line) for line in lines] == [width] * height
        dots = np.array([[ord(c) - 0x2800 for c in line] for line in lines])
        both = np.bitwise_or.reduce(dots, axis=0)
        assert all(cell & 0x47 and cell & 0xB8 for cell in both.tolist())
    falling = braille([8.0 - i for i in range(8)], 4, 2)
    assert falling[0][0] != "\u2800"
    assert falling[1][0] == "\u2800"
