"""Records that jobs, runners and daemons write for each other: run folders, steps."""

import io
import json
import random
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.locks import held
from curation.workspace import Workspace
from distill.cli.comparing import compare
from distill.cli.job_log import print_log
from distill.cli.job_view import follow, print_status
from distill.cli.results import show
from distill.daemon import client, daemon_lock
from distill.daemon.attempts import Attempt
from distill.daemon.executor import ALONE
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.listing import Wanted
from distill.daemon.opening import open_queue
from distill.daemon.scheduler import Scheduler
from distill.daemon.states import State
from distill.notices import read_notices
from distill.pipeline.steps import RESULT, StepStore
from distill.training.checkpoints import best_checkpoint, newest_checkpoint, scores_of
from tests.fuzz.harness import Files, Special, reader

_ID = "00112233aabbccdd"
_RUNNER = {"pid": 4194304, "start_ticks": 12, "boot_id": "0b3d9c1a"}
_ENDED = {"exit_status": 1, "signal": None, "error": None, "started_at": 1.5, "finished_at": 2}
_STEP = {
    "name": "generation 1",
    "kind": "distil",
    "state": "running",
    "id": "distil-01",
    "path": "/w",
    "seconds": 3.5,
    "scores": {"a": 0.5},
    "note": "well",
    "images": 60,
}
_SCORES = {
    "accuracy": 0.98,
    "std": 0.01,
    "pairs": 600,
    "reason": None,
    "tar_at_far": {"1e-3": {"tar": 0.7}, "1e-4": {"tar": None, "reason": "few"}},
}
_ORIGIN = {
    "code": {"version": "0.1.0", "digest": "0" * 64, "commit": "a" * 40, "changed": True},
    "versions": {"python": "3.11.7", "torch": "2.14.1"},
    "data": {"ms1m/train": "1" * 64},
    "teacher": {"r100.onnx": "2" * 64},
    "at": "2026-01-02T03:04:05+00:00",
    "file": "jobs/a.toml",
    "spec": "3" * 64,
    "overrides": ["train.seed=3"],
    "written": "name = 'a'",
}
_WORDS = (
    "\\ud800",
    "\\udcff.jpg",
    "\\u001b]0;x\\u0007",
    "[/x]",
    "\\u0000",
    "a\\nb",
    " ",
    "é" * 2000,
)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _run(**others: Any) -> Files:
    records = {
        "runner": {"attempt": 1, "id": _ID, "runner": _RUNNER},
        "failure": {"reason": "the loss is NaN", "hint": "lower the rate"},
        "steps": [_STEP, _STEP | {"name": "evaluate", "state": "waiting", "seconds": None}],
        "progress": {
            "step": "generation 1",
            "time": 3.5,
            "done": 5,
            "total": 60,
            "per_second": 1.5,
            "seconds_left": 30,
            "job_seconds_left": 90.5,
        },
        "warnings": [{"step": "teach", "key": "idle", "text": "a loss does nothing"}],
        "evaluation": {
            "sets": {"lfw": _SCORES},
            "networks": {"student": {"sets": {"lfw": _SCORES}}},
        },
        "provenance": _ORIGIN,
        **others,
    }
    line = {"step": "generation 1", "time": 3.5, "iteration": 4, "loss_angular": 0.5}
    return {f"{name}.json": _json(value) for name, value in records.items()} | {
        "spec.toml": b"name = 'a'\n",
        "log.txt": b"--- begins\n\x1b[31mred\n",
        "metrics.jsonl": 2 * (_json(line) + b"\n"),
    }


def _runs() -> list[Files]:
    return [
        _run(exit={"attempt": 1, "id": _ID, **_ENDED}),
        _run(exit={"attempt": 1, "id": _ID, **_ENDED, "exit_status": None, "signal": 9}),
        _run(exit={"attempt": 1, "id": _ID, **_ENDED, "exit_status": 75},
             waiting={"step": "distil-0123456789abcdef", "name": "generation 1", "job": "b"}),
        _run(),
    ]  # fmt: skip


def _say(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Replace a text in a record, for example with half a surrogate pair or terminal codes."""
    if not files:
        return
    name = rng.choice(sorted(files))
    content = files[name]
    if isinstance(content, bytes) and content.count(b'"') > 1:
        pieces = content.split(b'"')
        pieces[rng.randrange(1, len(pieces), 2)] = rng.choice(_WORDS).encode()
        files[name] = b'"'.join(pieces)


class _NoLaunch(LocalExecutor):
    """The real executor, except that it starts and signals no process."""

    def launch(self, attempt: Attempt, environment: Mapping[str, str] = ALONE) -> bool:
        return True


@reader("run folder", _runs, [_say, _say], share=0.3)
def read_run(folder: Path) -> None:
    """Show a job that the queue lists as running, settle it next to another, show it again."""
    workspace = Workspace(folder.with_name("workspace"))
    workspace.runs.mkdir(parents=True)
    folder.rename(workspace.runs / "a")
    with open_queue(workspace) as queue:
        queue.submit("a", "name = 'a'\n", 1.0)
        queue.claim(2.0)
        queue._update("a", attempt_id=_ID, launched=True)
        queue.submit("b", "name = 'b'\n", 3.0)
        _look(workspace)
        place = _NoLaunch(lambda run: ["true"])
        Scheduler(queue, place, workspace.runs, slots=2).step()
        settled, other = queue.job("a"), queue.job("b")
        assert settled is not None
        assert settled.state is not State.RUNNING or settled.attempt == 2, settled
        assert "cannot supervise it" not in str(settled.reason), settled.reason
        assert other is not None
        assert other.state is State.RUNNING, other
        queue.request_cancel("b", 4.0)
    _look(workspace)


def _look(workspace: Workspace) -> None:
    """Everything that shows a job; no content of a run folder may make it fail."""
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
        jobs = client.page(workspace, Wanted()).jobs
        print_status(jobs, workspace)
        assert sorted(job.name for job in jobs) == ["a", "b"]
        show("a", json=False, workspace=workspace.root)
        show("a", json=True, workspace=workspace.root)
        compare(["a", "b"], json=False, workspace=workspace.root)
        compare(["a", "b"], json=True, workspace=workspace.root)
        with suppress(UserError):  # no daemon is there to end the job
            follow(workspace, "a")
        print_log(workspace, "a", None)
    assert "\x1b" not in said.getvalue()
    said.getvalue().encode()


def _steps() -> list[Files]:
    scored = {"score": 0.9, "lfw": 0.9}
    return [
        {
            "checkpoints/step-00000004/scores.json": _json(scored),
            "checkpoints/step-00000004/training.pt": b"weights",
            "checkpoints/step-00000004/manifest.json": _json({
                "scores.json": "4af2" * 16,
                "training.pt": "9a01" * 16,
            }),
            "result.json": _json({"losses": {"loss_total": 0.5}, "files": {"a": 3}}),
            "warnings.json": _json([{"key": "idle", "text": "a loss does nothing"}]),
        }
    ]  # fmt: skip


@reader("step folder", _steps, [_say], share=0.5)
def read_step(folder: Path) -> None:
    """Look up a finished step and the checkpoint from which training resumes."""
    read_notices(folder / "warnings.json")
    best = best_checkpoint(folder / "checkpoints")
    assert best is None or scores_of(best)
    newest_checkpoint(folder / "checkpoints")
    store = StepStore(folder.parent)
    folder.rename(store.folder("distil", {}))
    done = (store.folder("distil", {}) / RESULT).exists()
    outcome = store.perform("distil", {}, lambda inside: {"made": True})
    assert done == outcome.reused


def _daemon() -> list[Files]:
    return [
        {"daemon/daemon.json": _json({"process": _RUNNER, "slots": 2}), "daemon/daemon.lock": b""}
    ]


@reader("daemon record", _daemon, [_say], share=0.3)
def read_daemon(folder: Path) -> None:
    """Find the process that serves a workspace: alive according to its lock."""
    workspace, lock = Workspace(folder), folder / "daemon" / "daemon.lock"
    if not lock.is_file():
        assert daemon_lock.find(workspace) is None
        return
    with held(lock):
        found = daemon_lock.find(workspace)
    assert found is None or 0 < found.process.pid <= 1 << 22
