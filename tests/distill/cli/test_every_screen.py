"""Every command at 80 columns with hostile names in every record: no text is cut or coloured."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.markup import render
from typer.main import get_command
from typer.testing import CliRunner

from curation.errors import UserError
from curation.images import encode_jpeg
from curation.printable import printable
from curation.workspace import Workspace
from distill.cli.curate import app as curate
from distill.cli.main import app as distill
from distill.cli.screen import size_of
from distill.daemon.opening import open_queue
from distill.daemon.outcome import Outcome
from distill.daemon.runfolder import locked
from distill.daemon.states import Event

APPS = {"curate": curate, "distill": distill}
REASON = "[/__w/pytorch/gloo/tcp/pair.cc:561] Connection \x1b[31mclosed\x1b]0;x\x07 by peer"
ENDS = {
    "good": Outcome(event=Event.SUCCEED),
    "bad": Outcome(event=Event.FAIL, reason=REASON, hint="do [/that]"),
    "at-work-with-a-name-of-forty-characters": None,
}
NAMES = ["[/x]", "[bold]" + "n" * 50, "\x1b[31mred", "with several words in it"]


def commands():
    """Every command of both programs, as its words on the command line."""
    found = []

    def walk(words, command):
        found.append(words)
        for name, below in getattr(command, "commands", {}).items():
            walk([*words, name], below)

    for name, app in APPS.items():
        walk([name], get_command(app))
    return found


def test_no_word_of_a_help_text_is_taken_for_markup():
    """``[augment]`` would be: Rich takes it for a style, and the word is not shown."""

    def walk(command):
        texts = [command.help, *(getattr(each, "help", None) for each in command.params)]
        for text in filter(None, texts):
            assert render(text).plain == text
        for below in getattr(command, "commands", {}).values():
            walk(below)

    walk(get_command(distill))


def test_lists_of_commands_need_one_line_of_each_help_text():
    """Rich keeps the line breaks of a first paragraph, and the list would show them."""

    def walk(command):
        assert "\n" not in (command.help or "").split("\n\n")[0]
        for below in getattr(command, "commands", {}).values():
            walk(below)

    for app in APPS.values():
        walk(get_command(app))


def run(*words, columns=80, **variables):
    """The output of a command with COLUMNS set."""
    program, *arguments = map(str, words)
    environment = {"COLUMNS": str(columns)} | variables
    result = CliRunner().invoke(APPS[program], arguments, env=environment)
    if not isinstance(result.exception, SystemExit | UserError | None):
        raise result.exception
    return result


def check(text, columns, *whole):
    """No line is wider than the screen unless one word is; no text is cut, hidden or moved."""
    for line in text.splitlines():
        assert line.isprintable(), line
        assert size_of(line) <= columns or len(line.split()) <= 3, line
    assert "…" not in text
    for word in whole:
        assert printable(word) in text


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_has_both_option_names_and_fits(words):
    shown = [run(*words, option).stdout for option in ("-h", "--help")]
    assert shown[0] == shown[1]
    assert words[-1] in shown[0]
    check(shown[0], 80)


@pytest.mark.parametrize("program", APPS)
def test_both_programs_print_their_version(program):
    assert re.fullmatch(rf"{program} \d+\.\d+\.\d+\n", run(program, "--version").stdout)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Jobs in every state, with hostile records."""
    place = Workspace(tmp_path_factory.mktemp("screens") / "ws")
    with open_queue(place) as queue:
        for name in ENDS:
            queue.submit(name, f"name = '{name}'", 0.0)
            queue.claim(1.0)
        for name, end in ENDS.items():
            if end is not None:
                queue.settle(name, 1, lambda cancelled, end=end: end, 2.0)
            write_records(place.runs / name)
    return place


def write_records(run: Path):
    run.mkdir(parents=True)
    states = ["done", "reused", "skipped", "running"]
    steps = [
        {
            "name": name,
            "kind": "distil",
            "state": state,
            "seconds": 1234.5,
            "note": REASON,
            "peak_memory_bytes": 1234 << 20,
            "peak_gpu_memory_bytes": 56789 << 20,
        }
        for name, state in zip(NAMES, states, strict=True)
    ]
    (run / "steps.json").write_text(json.dumps(steps))
    progress = {"step": NAMES[3], "done": 1_234_567, "total": 5_822_653, "per_second": 4.5,
                "seconds_left": 1e6, "job_seconds_left": 2e6}  # fmt: skip
    (run / "progress.json").write_text(json.dumps(progress))
    rates = {rate: {"tar": 0.1234} for rate in ("1e-1", "1e-2", "1e-3", "1e-4")}
    scores = {"accuracy": 0.98765, "std": 0.01234, "tar_at_far": rates}
    networks = {name: {"sets": dict.fromkeys(NAMES, scores)} for name in NAMES}
    (run / "evaluation.json").write_text(json.dumps({"networks": networks}))
    (run / "log.txt").write_bytes(f"\x1b[32mfine\x1b[0m\n{REASON}\r\n".encode() + b"\xff\x9b\n")


@pytest.mark.parametrize("columns", [60, 80, 200])
class TestJobs:
    def test_status(self, workspace, columns):
        shown = run("distill", "status", "--workspace", workspace.root, columns=columns).stdout
        rows = [line for line in shown.splitlines() if ": " not in line]
        check("\n".join(rows), columns, "at-work-with-a-name-of-forty-characters")
        (reason,) = [line for line in shown.splitlines() if line.startswith("bad: ")]
        assert printable(REASON) in reason
        assert "1,234,567 of 5,822,653 images, 4.5/s, about 12 days left" in shown
        assert "the job about 23 days" in shown

    def test_show(self, workspace, columns):
        shown = run("distill", "show", "bad", "--workspace", workspace.root, columns=columns).stdout
        assert f"reason: {printable(REASON)}" in shown
        for words in ("what helps: do [/that]", "distill logs bad", "distill submit"):
            assert words in shown
        tables = shown[shown.index("steps\n") : shown.index("run folder")]
        check(tables, columns, *NAMES[:3], "0.9877", "0.0123", "0.1234", "1234.5")
        check(tables, columns, "1,234", "56,789")

    def test_logs(self, workspace, columns):
        shown = run("distill", "logs", "bad", "--workspace", workspace.root, columns=columns).stdout
        assert shown.splitlines()[0] == "fine"
        assert all(line.isprintable() for line in shown.splitlines())

    def test_watch(self, workspace, columns):
        ran = run("distill", "watch", "bad", "--workspace", workspace.root, columns=columns)
        assert ran.exit_code == 1
        assert all(line.isprintable() for line in ran.stderr.splitlines())
        assert f"bad: failed: {printable(REASON)}; do [/that] (" in ran.stderr

    def test_backbones(self, columns):
        shown = run("distill", "backbones", columns=columns).stdout
        check(shown, columns, "mobilefacenet_expansion_x2", "272,105,108")

    def test_recipes(self, columns):
        check(run("curate", "recipes", columns=columns).stdout, columns, "long-tail-cut")


def test_a_table_distinguishes_jobs_even_with_json(workspace):
    shown = run("distill", "status", "--json", "--workspace", workspace.root).stdout
    assert all(line.isprintable() for line in shown.splitlines())
    reasons = [job["reason"] for job in json.loads(shown)]
    assert REASON in reasons


@pytest.mark.parametrize("name", ["[/x].jpg", "[bold].jpg", "\x1b[31mred.jpg", "a\nb.jpg"])
def test_images_may_have_any_name(small_bundle, tmp_path, name):
    faces = [tmp_path / name, tmp_path / "face.jpg"]
    for face in faces:
        face.parent.mkdir(exist_ok=True)
        face.write_bytes(encode_jpeg(np.full((112, 112, 3), 99, np.uint8)))
    shown = run("distill", "embed", small_bundle, *faces).stdout
    table = shown[: shown.index("1.0000") + 6]
    check(table, 80, name, "face.jpg")


def test_without_jobs_the_workspace_is_named(tmp_path):
    for words in (["status"], ["show", "x"], ["logs", "x"], ["watch", "x"], ["pull", "x"]):
        ran = run("distill", *words, "--workspace", tmp_path / "here")
        told = ran.stderr + str(ran.exception)
        assert str(tmp_path / "here") in told
        assert "distill submit" in told


def test_only_screen_and_display_print():
    """Every other module prints through `screen`, or through `display` on stderr. `live` draws on
    the whole screen and makes its text printable itself; `start` prints a line of its own before
    the others are loaded."""
    folder = Path(sys.modules["distill.cli.screen"].__file__).parent
    doors = {"screen.py", "display.py", "live.py", "start.py"}
    printing = re.compile(r"typer\.echo|\bprint\(|Console\(|std(out|err)\.(write|buffer)")
    found = [
        f"{path.name}: {line.strip()}"
        for path in folder.rglob("*.py")
        if path.name not in doors
        for line in path.read_text().splitlines()
        if printing.search(line)
    ]
    assert found == ['common.py: typer.echo(f"{command} {__version__}")']


class Terminal:
    """A command in a terminal of 80 columns, and its output there."""

    def __init__(self, *words, **variables):
        program, *arguments = map(str, words)
        module = {"distill": "distill.cli.main", "curate": "distill.cli.curate"}[program]
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.execvpe(
                sys.executable,
                [sys.executable, "-m", module, *arguments],
                environment | {"TERM": "xterm"} | variables,
            )
        self.seen = b""

    def read_until(self, words, patience=60.0):
        deadline = time.monotonic() + patience
        while words is None or words not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if not select.select([self.file], [], [], 0.1)[0]:
                continue
            try:
                self.seen += os.read(self.file, 4096)
            except OSError:  # Linux reports a closed peer this way
                break
        return self.seen.decode()

    def end(self):
        """The exit status and all output."""
        self.read_until(None)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.file)
        return os.waitstatus_to_exitcode(status), self.seen.decode()


def test_a_terminal_has_coloured_states_and_wrapped_lines(workspace):
    status, seen = Terminal("distill", "status", "--workspace", workspace.root).end()
    assert status == 0
    assert "\x1b[32mdone" in seen
    plain = re.sub(r"\x1b\[\d*m", "", seen).replace("\r", "")
    check(plain, 80)


def test_no_record_moves_or_colours_a_watched_terminal(workspace):
    run_folder = workspace.runs / "at-work-with-a-name-of-forty-characters"
    metrics = {"step": NAMES[3], "loss_\x1b[31m\x9b2J\u202e[/x]": 0.25}
    (run_folder / "metrics.jsonl").write_text(json.dumps(metrics) + "\n")
    with locked(run_folder):
        watching = Terminal("distill", "watch", run_folder.name, "--workspace", workspace.root)
        watching.read_until(b"[/x] 0.25")
        os.kill(watching.pid, signal.SIGINT)
        status, seen = watching.end()
    assert status == 130
    ours = re.compile(r"\r(\x1b\[\d+A)?\x1b\[J|\r?\n")
    assert ours.sub("", seen).isprintable(), ours.sub("", seen)
    for word in (REASON, *NAMES[:3], r"loss_\x1b[31m\x9b2J\u202e[/x] 0.25"):
        assert printable(word).split()[0] in seen


def test_a_traceback_contains_no_terminal_codes():
    code = "import typer; from distill.cli.common import run_app\napp = typer.Typer()\n"
    code += "@app.command()\ndef fails():\n    raise ValueError('\\x1b]0;x\\x07[/x]\\u202e')\n"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}run_app(app)"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("Traceback")
    assert ran.stderr.splitlines()[-1] == r"ValueError: \x1b]0;x\x07[/x]\u202e"


def test_lack_of_memory_is_reported_in_one_line():
    code = "import numpy, typer; from distill.cli.common import run_app\napp = typer.Typer()\n"
    code += "@app.command()\ndef fails():\n    numpy.zeros(1 << 60, numpy.int8)\n"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}run_app(app)"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert re.fullmatch("error: out of memory: .*1.00 EiB.*\n", ran.stderr)


def test_a_conversion_in_a_terminal_never_shows_0_per_second(tmp_path):
    source = tmp_path / "faces"
    for number in range(4):
        (source / str(number)).mkdir(parents=True)
        face = encode_jpeg(np.full((112, 112, 3), 60 * number, np.uint8))
        (source / str(number) / "a.jpg").write_bytes(face)
    status, seen = Terminal("curate", "convert", source, tmp_path / "x.lmdb").end()
    assert status == 0
    assert "convert: 4 images in " in seen
    assert "0/s" not in seen
    assert "Traceback" not in seen


def test_help_takes_less_than_half_a_second_of_work():
    for module in ("distill.cli.main", "distill.cli.curate"):
        before = os.times()
        subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, check=True)
        after = os.times()
        assert after.children_user - before.children_user < 0.6


def test_an_unfinished_line_does_not_stop_the_log(tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "log.txt").write_bytes(b"one\ntwo")
    assert run("distill", "logs", "a", "--workspace", tmp_path).stdout == "one\ntwo\n"
