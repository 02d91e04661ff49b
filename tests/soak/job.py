"""The soak's job, ``job.py RUN``: runs each step once, starts a rank, ends as its spec says.

It records violations of its invariants in the run folder as ``violation.txt``.
"""

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

_asked_to_stop = False


def main(run: Path) -> int:
    spec = tomllib.loads((run / "spec.toml").read_text())
    signal.signal(signal.SIGTERM, _stop)
    _be_alone(run, "job")
    gpus = [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu]
    for gpu in gpus:
        _be_alone(run, f"../{gpu}")
    if len(gpus) != spec["resources"]["gpus"]:
        _note(run, f"{gpus} for {spec['resources']['gpus']} GPUs")
    with (run / "lives.txt").open("a") as lives:
        lives.write(os.environ["DISTILL_ATTEMPT"].rpartition("#")[2] + "\n")
    rank = subprocess.Popen([*sys.orig_argv[:3], str(run), "rank"], start_new_session=True)
    for step in range(spec["steps"]):
        if not (run / f"step-{step}").exists():
            _work(rank, spec["seconds"])
            _finish(run, step)
    if spec["end"] == "fail":
        (run / "failure.json").write_text(json.dumps({"reason": "as its spec says"}))
        return 3
    while spec["end"] == "wait":
        _work(rank, 0.02)
    return 0


def rank(run: Path) -> int:
    """Run in a separate session until killed."""
    _be_alone(run, "rank")
    time.sleep(600)
    return 1


def _stop(number: int, frame: object) -> None:
    global _asked_to_stop
    _asked_to_stop = True


def _be_alone(run: Path, what: str) -> None:
    """Hold a lock for the life of the process; report a violation if another process holds it."""
    lock = os.open(run / f"{what}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _note(run, f"two of {what} at {time.time()}")


def _note(run: Path, fault: str) -> None:
    with (run / "violation.txt").open("a") as file:
        file.write(f"{fault}\n")


def _work(rank: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Work for ``seconds``; exit if a stop is requested or the rank ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _asked_to_stop:
            raise SystemExit(128 + signal.SIGTERM)
        if (ended := rank.poll()) is not None:
            raise SystemExit(128 - ended if ended < 0 else ended)
        time.sleep(0.01)


def _finish(run: Path, step: int) -> None:
    """Write the step's result; a second result is a violation."""
    beside = run / f".step-{step}.{os.getpid()}"
    beside.write_text(secrets.token_hex(8))
    with suppress(FileExistsError):
        os.link(beside, run / f"step-{step}")
        beside.unlink()
        return
    _note(run, f"step {step} was done twice")


if __name__ == "__main__":
    raise SystemExit((rank if sys.argv[2:] == ["rank"] else main)(Path(sys.argv[1])))
