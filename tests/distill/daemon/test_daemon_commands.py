"""The commands around the queue, as a user types them."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_daemon_delivery import make_bundle
from typer.testing import CliRunner

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli.main import app
from distill.daemon import client, daemon_lock
from distill.daemon.states import State
from distill.spec_source import LARGEST_SPEC
from tests.distill.daemon.harness import PATIENCE, Harness, spec

STEPS = """
import json, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
def write(name, value):
    new = run / (name + ".new")
    new.write_text(json.dumps(value))
    new.rename(run / name)
step = {"name": "generation 1", "kind": "distil", "state": "running", "seconds": None}
write("steps.json", [step])
for done in range(3):
    write("progress.json", {"step": "generation 1", "done": done, "total": 3})
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": "generation 1", "loss_angular": 0.5}) + "\\n")
    time.sleep(0.2)
write("steps.json", [step | {"state": "done", "seconds": 0.6}])
"""


VERBS = (
    "serve",
    "submit",
    "status",
    "watch",
    "logs",
    "cancel",
    "pause",
    "move",
    "resume",
    "wait",
    "history",
    "diff",
    "retry",
    "remove",
    "drain",
    "undrain",
)


class Ran:
    """The output and exit status of a command."""

    def __init__(self, workspace: Workspace, *arguments: str) -> None:
        environment = {"DISTILL_WORKSPACE": str(workspace.root), "COLUMNS": "200"}
        result = CliRunner().invoke(app, [*arguments], env=environment)
        self.status = result.exit_code
        self.stdout, self.stderr = result.stdout, result.stderr
        if isinstance(result.exception, UserError):  # handled as in `run_app`
            self.status, self.stderr = 1, f"{self.stderr}error: {result.exception}\n"
        elif not isinstance(result.exception, SystemExit | None):
            raise result.exception

    @property
    def error(self) -> str:
        assert self.status == 1
        (line,) = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        return line


def distill(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "distill.cli.main", *arguments, "--workspace", str(workspace.root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )


def test_reading_commands_make_nothing_and_say_what_to_do(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "none")
    assert "distill submit" in Ran(workspace, "status").stderr
    assert json.loads(Ran(workspace, "status", "--json").stdout) == []
    for command in ("show", "logs", "pull", "watch", "wait", "history", "cancel"):
        assert "no job" in Ran(workspace, command, "nobody").error
    assert "no daemon" in Ran(workspace, "stop").stdout
    assert not workspace.root.exists()


@pytest.mark.parametrize(
    "command", ["status", "show", "logs", "pull", "watch", "wait", "history", "cancel"]
)
@pytest.mark.parametrize("name", ["../../etc", "A", "a\n"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, command: str, name: str) -> None:
    assert "is not a job name" in Ran(Workspace(tmp_path), command, name).error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"name = ", "not TOML"),
        (b"\x80", "is not UTF-8"),
        (b"[data]", "job.toml:1:1: 'name' is missing"),
        (b'name = "Not Allowed"', "is not a job name"),
        (b"#" * (LARGEST_SPEC + 1), "is larger than"),
    ],
)
def test_a_spec_that_is_none_is_refused_and_its_file_named(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "job.toml"
    if content is not None:
        path.write_bytes(content)
    error = Ran(Workspace(tmp_path / "workspace"), "submit", str(path)).error
    assert words in error
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize("path", ["/dev/zero", "/tmp"])
def test_a_spec_must_be_a_plain_file(tmp_path: Path, path: str) -> None:
    assert "is not a file" in Ran(Workspace(tmp_path), "submit", path).error


def test_a_real_spec_is_checked_before_it_queues(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('name = "a"\n[data]\ntrain = "no/data"\n[student]\nbackbone = "mobilefacenet"\n'
                    '[[stage]]\nepochs = 1\nlosses = { arcface = {} }\n')  # fmt: skip
    error = Ran(Workspace(tmp_path / "workspace"), "submit", str(path)).error
    assert str(path) in error
    assert "no/data" in error
    assert client.jobs(Workspace(tmp_path / "workspace")) == []


def test_without_a_daemon_status_says_how_to_start_one(harness: Harness) -> None:
    harness.submit("a")
    ran = Ran(harness.workspace, "status")
    assert "queued" in ran.stdout
    assert "distill serve --background" in ran.stderr
    (job,) = json.loads(Ran(harness.workspace, "status", "--json").stdout)
    assert (job["name"], job["state"]) == ("a", "queued")
    assert "daemon" in job["waiting_for"]
    assert "no daemon is running" in Ran(harness.workspace, "watch", "a").error


def test_without_a_daemon_a_queued_job_is_cancelled(harness: Harness) -> None:
    harness.submit("a")
    assert Ran(harness.workspace, "cancel", "a").stdout == "a: cancelled\n"
    assert harness.job("a").state is State.CANCELLED


def test_watch_shows_steps_and_progress_and_ends_with_the_job(harness: Harness) -> None:
    harness.start()
    harness.submit("good", STEPS)
    ran = Ran(harness.workspace, "watch", "good")
    assert ran.status == 0
    assert "generation 1 ..." in ran.stderr
    assert re.search(r"generation 1: \d+%, [012] of 3 images, loss_angular 0.5", ran.stderr)
    assert "generation 1: done in 0.6 s" in ran.stderr
    assert "distill pull good" in ran.stderr
    harness.submit("bad", "print('on the way'); raise SystemExit(3)")
    ran = Ran(harness.workspace, "watch", "bad")
    assert ran.status == 1
    assert "status 3" in ran.stderr
    shown = json.loads(Ran(harness.workspace, "status", "bad", "--json").stdout)
    assert (shown["state"], shown["exit_status"]) == ("failed", 3)
    logs = Ran(harness.workspace, "logs", "bad", "--lines", "2").stdout.splitlines()
    assert logs[0] == "on the way"
    assert len(logs) == 2


def test_watch_draws_a_live_screen_in_a_terminal(harness: Harness) -> None:
    harness.start()
    harness.submit("good", STEPS.replace("0.2", "1.5"))  # the view is drawn in the middle of it
    terminal, side = os.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "distill.cli.main", "watch", "good"],
        env={**os.environ, "DISTILL_WORKSPACE": str(harness.workspace.root), "TERM": "xterm"},
        stderr=side,
        stdout=subprocess.DEVNULL,
    )
    os.close(side)
    picture = b""
    try:
        while piece := os.read(terminal, 4096):
            picture += piece
    except OSError:
        pass  # Linux reports a closed peer like this
    os.close(terminal)
    assert watching.wait(PATIENCE) == 0
    for words in (b"generation 1", b"loss_angular 0.5", b"done"):
        assert words in picture


@pytest.mark.parametrize("looking", [["watch", "a"], ["logs", "a", "--follow"]])
def test_ctrl_c_ends_the_looking_and_not_the_job(harness: Harness, looking: list[str]) -> None:
    harness.start()
    harness.submit("a", "import time; print('hello', flush=True); time.sleep(100)")
    harness.wait_for_file("a", "log.txt")
    command = [sys.executable, "-u", "-m", "distill.cli.main", *looking]
    root = str(harness.workspace.root)
    with subprocess.Popen(
        [*command, "--workspace", root], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is watching now
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    (line,) = said.decode().splitlines()[-1:]
    assert line == "a continues; watch again with `distill watch a`, end it with `distill cancel a`"
    assert harness.job("a").state is State.RUNNING


def test_logs_follow_a_job_to_its_end(harness: Harness) -> None:
    harness.start()
    harness.submit("a", "import time; print('one', flush=True); time.sleep(0.5); print('two')")
    ran = Ran(harness.workspace, "logs", "a", "--follow")
    assert ran.status == 0
    assert ran.stdout == (harness.run("a") / "log.txt").read_text()


def test_a_background_daemon_goes_and_leaves_its_jobs(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    started = distill(workspace, "serve", "--background", "--slots", "3")
    assert started.returncode == 0, started.stderr
    assert "daemon.log" in started.stdout
    again = distill(workspace, "serve", "--background")
    assert again.returncode == 0
    assert "already" in again.stdout
    foreground = distill(workspace, "serve")
    assert foreground.returncode == 1
    assert foreground.stderr.startswith("error: a daemon (pid ")
    stopped = Ran(workspace, "stop")
    assert "running jobs continue" in stopped.stdout
    assert daemon_lock.find(workspace) is None


def test_a_daemon_that_cannot_start_says_why(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.daemon.mkdir()
    (workspace.daemon / "queue.sqlite").write_bytes(b"garbage" * 1000)
    assert "is damaged" in Ran(workspace, "serve", "--background").error


def test_status_tells_a_hanging_daemon_apart_from_none(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.start()
    begin = "import sys, time; open(sys.argv[1] + '/begun', 'w').write('yes'); time.sleep(100)"
    harness.submit("a", begin)
    # The daemon is not in the middle of a fork, which would delay the SIGSTOP.
    harness.wait_for_file("a", "begun")
    assert harness.daemon is not None
    harness.daemon.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(client, "_ANSWER_SECONDS", 0.5)
    assert "running" in Ran(harness.workspace, "status").stdout
    assert "does not answer" in Ran(harness.workspace, "cancel", "a").error
    harness.daemon.send_signal(signal.SIGCONT)


def test_show_and_pull_return_the_results(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    run = workspace.runs / "sample"
    run.mkdir(parents=True)
    (run / "spec.toml").write_text(spec("sample"))
    (run / "steps.json").write_text(
        json.dumps([{"name": "export", "state": "reused", "seconds": 2}])
    )
    scores = {"accuracy": 0.98765, "std": 0.01, "digest": "abc", "pairs": 600,
              "tar_at_far": {"1e-2": {"tar": 0.75}, "1e-3": {"tar": None}}}  # fmt: skip
    reason = "0 impostor pairs are too few for ten folds"
    few = {"1e-2": {"tar": None, "reason": "insufficient pairs"}}
    none = {"accuracy": None, "reason": reason, "tar_at_far": few}
    (run / "evaluation.json").write_text(json.dumps({"sets": {"lfw": scores, "mine": none}}))
    bundle = make_bundle(workspace.steps / "export-1" / "bundle")
    (run / "bundle").symlink_to(bundle)

    shown = Ran(workspace, "show", "sample").stdout
    for words in ("export", "reused", "lfw", "0.9877", "0.7500", "model.onnx", str(run)):
        assert words in shown
    assert f"student has no accuracy on mine: {reason}" in shown
    assert "student has no TAR on mine: insufficient pairs" in shown
    told = json.loads(Ran(workspace, "show", "sample", "--json").stdout)
    assert told["evaluation"]["sets"]["lfw"]["pairs"] == 600
    assert told["bundle"]["files"]["model.onnx"] == len(b"weights")

    pulled = Ran(workspace, "pull", "sample")
    assert str(workspace.bundles / "sample") in pulled.stdout
    assert (workspace.bundles / "sample" / "model.onnx").read_bytes() == b"weights"
    assert "already" in Ran(workspace, "pull", "sample").stdout
    (tmp_path / "mine").write_text("a file")
    assert "is not a bundle" in Ran(workspace, "pull", "sample", str(tmp_path / "mine")).error


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sets": 3}', "\x00", '{"networks": [1]}'])
def test_show_survives_records_that_make_no_sense(tmp_path: Path, content: str) -> None:
    workspace = Workspace(tmp_path)
    run = workspace.runs / "odd"
    run.mkdir(parents=True)
    for name in ("steps.json", "evaluation.json", "progress.json", "metrics.jsonl"):
        (run / name).write_text(content)
    assert Ran(workspace, "show", "odd").status == 0


@pytest.mark.parametrize("command", [*VERBS])
def test_help_has_an_example(command: str) -> None:
    help_text = CliRunner().invoke(app, [command, "--help"]).stdout
    assert f"Example: distill {command}" in help_text


def test_the_commands_import_nothing_heavy() -> None:
    code = (
        "import sys, distill.cli.jobs, distill.cli.results;"
        "heavy = {'fastapi', 'httpx', 'uvicorn', 'psutil', 'torch', 'sqlite3', 'pydantic'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_waiting_is_explained(harness: Harness) -> None:
    harness.start()
    harness.submit("busy", "import time; time.sleep(100)")
    harness.submit("next")
    harness.wait_for("busy", State.RUNNING)
    shown = json.loads(Ran(harness.workspace, "status", "next", "--json").stdout)
    assert shown["waiting_for"] == "a slot: 1 of 1 taken by busy"


def test_daemon_messages_about_a_job_contain_no_codes(harness: Harness) -> None:
    harness.start()
    code = """import json, sys
with open(sys.argv[1] + "/failure.json", "w") as file:
    json.dump({"reason": "\\x1b]0;title\\x07 [/x] \\x1b[31mred"}, file)
sys.exit(1)
"""
    harness.submit("a", code)
    harness.wait_for("a", State.FAILED)
    said = (harness.workspace.root.parent / "daemon-output.txt").read_text()
    assert "a: failed" in said
    assert "\x1b" not in said
    assert r"\x1b]0;title\x07 [/x]" in said
