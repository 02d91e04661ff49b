"""What stops a running job before something worse happens, and how it continues."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_under_test import accept
from test_daemon_commands import Ran

from distill.daemon import client, guards, room, stalls
from distill.daemon.attempts import Attempt
from distill.daemon.cgroup import memory_group
from distill.daemon.guards import Guards, guards_of
from distill.daemon.outcome import MAXIMUM_ATTEMPTS, judge_exit, judge_loss
from distill.daemon.progress import Made, progress_made
from distill.daemon.queue import Queue
from distill.daemon.records import ExitRecord, Stop
from distill.daemon.room import Room, least_room, newest_checkpoint_bytes
from distill.daemon.states import Event, State
from distill.resources import Resources
from distill.run_directory import Failure
from tests.distill.daemon.harness import Harness, wait_until

# Succeeds once the file exists; a TERM ends it after a "checkpoint".
PATIENT = """
import pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1])
def stop(number, frame):
    folder = run / "checkpoints" / "t" / "checkpoints" / f"step-{len(list(run.glob('saved*'))):08d}"
    folder.mkdir(parents=True, exist_ok=True)
    (run / f"saved{time.time_ns()}").touch()
    raise SystemExit(143)
signal.signal(signal.SIGTERM, stop)
(run / "starts").open("a").write("x")
"""
WAITS = PATIENT + "while not (run / 'go').exists():\n    time.sleep(0.05)\n"
GROWS = PATIENT + "held = b'x' * 200_000_000\ntime.sleep(100)\n"


def submit(harness: Harness, name: str, code: str, **resources: object) -> None:
    said = "\n".join(f"{key} = {json.dumps(value)}" for key, value in resources.items())
    text = f"name = '{name}'\ncode = '''\n{code}\n'''\n[resources]\n{said}\n"
    client.submit(harness.workspace, name, text, False, accept)


def record(**changed: object) -> ExitRecord:
    plain = {"attempt": 1, "exit_status": 143, "signal": None, "error": None, "started_at": 1.0,
             "finished_at": 2.0}  # fmt: skip
    return ExitRecord(**{**plain, **changed})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_is_up_once_the_hours_are_over(tmp_path: Path) -> None:
    clock = Clock()
    asked = Resources(hours=2, on_time="fail")
    watched = Guards(Attempt(tmp_path, 1), asked, clock)
    clock.now += 7199
    assert watched.look() is None
    clock.now += 2
    stop = watched.look()
    assert stop == Stop(why="time", reason="it ran for 2 h, its resources.hours", fail=True)
    assert judge_exit(record(stopped=stop), None, False).event is Event.FAIL
    again = judge_exit(record(stopped=Stop(why="time", reason="x")), None, False)
    assert (again.event, again.last) == (Event.INTERRUPT, True)
    assert judge_exit(record(stopped=stop, exit_status=0), None, False).event is Event.SUCCEED
    assert judge_exit(record(stopped=stop), None, True).event is Event.CANCEL


def test_a_silent_job_is_restarted_on_request(tmp_path: Path) -> None:
    clock = Clock()
    watched = Guards(Attempt(tmp_path, 1), Resources(stall_minutes=10, on_stall="restart"), clock)
    only_said = Guards(Attempt(tmp_path, 1), Resources(stall_minutes=10), clock)
    for minute in range(25):
        clock.now += 60
        if minute < 12:
            (tmp_path / "log.txt").write_text("x" * minute)
        stopped = watched.look()
        assert only_said.look() is None
        if stopped is not None:
            break
    assert minute == 21
    assert stopped is not None
    assert stopped.reason == "it showed no sign of life for 10 min"


ALLOWED = "[resources]\nstall_minutes = 10\n"


def test_a_silent_job_is_said_to_be_stalled_until_it_lives(tmp_path: Path) -> None:
    clock, attempt = Clock(), Attempt(tmp_path, 2, "ab")
    watched, log = Guards(attempt, Resources(stall_minutes=10), clock), tmp_path / "log.txt"
    log.write_text("x")
    told = []
    for minute in range(14):
        clock.now = 100.0 + 60 * minute
        if minute == 12:
            log.write_text("more")
        assert watched.look() is None
        told.append(stalls.stall(attempt, ALLOWED))
    words = "it has shown no sign of life for {} min (resources.stall_minutes: 10 min)"
    assert told == [None] * 10 + [words.format(10), words.format(11), None, None]


@pytest.mark.parametrize("years", [-10, 10], ids=["past", "future"])
def test_a_wrong_clock_neither_makes_nor_hides_a_stall(tmp_path: Path, years: int) -> None:
    clock, attempt = Clock(), Attempt(tmp_path, 1)
    watched, log = Guards(attempt, Resources(stall_minutes=10), clock), tmp_path / "log.txt"
    log.write_text("x")
    changed = log.stat().st_mtime + years * 365 * 24 * 3600
    os.utime(log, (changed, changed))
    watched.look()
    clock.now += 599
    watched.look()
    assert stalls.stall(attempt, ALLOWED) is None
    clock.now += 1
    watched.look()
    assert stalls.stall(attempt, ALLOWED) is not None


def test_a_stall_of_an_earlier_attempt_is_not_believed(tmp_path: Path) -> None:
    stalls.StallNote(Attempt(tmp_path, 1, "ab")).update(30, allowed=10)
    assert stalls.stall(Attempt(tmp_path, 1, "ab"), ALLOWED) is not None
    assert stalls.stall(Attempt(tmp_path, 1, "cd"), ALLOWED) is None
    assert stalls.stall(Attempt(tmp_path, 2, "ab"), ALLOWED) is None


def test_status_shows_how_long_a_job_was_silent(harness: Harness) -> None:
    harness.start()
    submit(harness, "a", WAITS, stall_minutes=0.02)
    harness.wait_for_file("a", "starts")
    wait_until(lambda: client.find_report(harness.workspace, "a").stalled is not None)
    shown = Ran(harness.workspace, "status").stdout
    assert "it has shown no sign of life for" in shown
    assert "(resources.stall_minutes: 1 s)" in shown
    (harness.run("a") / "go").touch()
    harness.wait_for("a", State.DONE)
    assert client.find_report(harness.workspace, "a").stalled is None


def test_room_is_kept_for_the_next_checkpoint(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "checkpoints" / "s" / "checkpoints" / "step-00000200"
    folder.mkdir(parents=True)
    (folder / "state").write_bytes(b"x" * 5000)
    assert newest_checkpoint_bytes(tmp_path) == 5000
    disk = Room(free=10**9, total=10**12)
    monkeypatch.setattr(guards, "room_of", lambda folder: disk)
    assert Guards(Attempt(tmp_path, 1), Resources()).disk() is None
    disk = Room(free=(1 << 24) + 4000, total=10**12)
    stop = Guards(Attempt(tmp_path, 1), Resources()).disk()
    assert stop is not None
    assert stop.reason == f"the disk of {tmp_path} had 0.0168 GB left"
    assert stop.disk == (1 << 26) + 10_000
    full = judge_exit(record(stopped=stop), Failure(reason="no space"), False)
    assert (full.event, full.disk) == (Event.INTERRUPT, stop.disk)
    assert full.reason == f"interrupted: {stop.reason} (no space)"
    assert least_room(Room(free=1, total=3 << 20)) == room.LEAST_ROOM


def test_a_job_stopped_by_the_disk_waits_for_room(tmp_path: Path) -> None:
    with Queue(tmp_path / "queue.sqlite") as queue:
        queue.submit("a", "name = 'a'", 0.0)
        queue.claim(1.0)
        stop = record(stopped=Stop(why="disk", reason="it had 1 MB left", disk=5000))
        queue.settle("a", 1, lambda cancelled: judge_exit(stop, None, cancelled), 2.0)
        assert queue.claim(100.0, disk=4999) is None
        assert queue.claim(100.0, disk=5000) is not None


def test_a_job_above_the_memory_that_it_asked_for_is_stopped(harness: Harness) -> None:
    harness.start()
    submit(harness, "a", GROWS, memory="150 MB")
    harness.wait_for("a", State.FAILED)
    job = harness.job("a")
    assert job.attempt == 2
    assert job.reason is not None
    assert job.reason.startswith("it used 0.")  # how much depends on when it was measured
    assert job.reason.endswith(" of 0.15 GB of memory, also with half the images at a time")
    assert "train.accumulate" in str(job.hint)
    (first, *_) = [line for line in queue_history(harness, "a") if line.event is Event.INTERRUPT]
    assert str(first.reason).startswith("interrupted: it used 0.")
    assert "it used" in json.loads((harness.run("a") / "halved.json").read_text())["reason"]
    assert len(list(harness.run("a").glob("saved*"))) == 2
    harness.submit("b")
    harness.wait_for("b", State.DONE)


def queue_history(harness: Harness, name: str):
    return client.history(harness.workspace, name)


def test_a_job_whose_time_is_up_lets_the_others_go_first(harness: Harness) -> None:
    harness.start()
    submit(harness, "long", WAITS, hours=0.0005)
    harness.wait_for_file("long", "starts")
    submit(harness, "short", "pass")
    harness.wait_for("short", State.DONE)
    reasons = [str(line.reason) for line in queue_history(harness, "long")]
    assert "interrupted: it ran for 0.0005 h, its resources.hours" in reasons
    wait_until(lambda: len(list(harness.run("long").glob("saved*"))) > MAXIMUM_ATTEMPTS)
    (harness.run("long") / "go").touch()
    assert harness.wait_for("long", State.DONE).attempt > MAXIMUM_ATTEMPTS


@pytest.mark.parametrize("made", [False, True], ids=["without progress", "with progress"])
def test_retries_start_again_after_progress(tmp_path: Path, made: bool) -> None:
    lost = judge_loss(rebooted=False, cancelled=False)
    with Queue(tmp_path / "queue.sqlite") as queue:
        queue.submit("a", "name = 'a'", 0.0)
        for attempt in range(1, 8):
            assert queue.claim(100.0 * attempt) is not None
            at = Made(iterations=attempt * 200 if made else 200, images=7)
            job = queue.settle("a", attempt, lambda _: lost, 100.0 * attempt, at)
            if job.state is State.FAILED:
                break
        assert job.state is (State.QUEUED if made else State.FAILED)
        assert attempt == (7 if made else 3)


def test_progress_is_read_from_the_folder(tmp_path: Path) -> None:
    assert progress_made(tmp_path) == Made()
    for training, step in {"teach": 400, "generation-1": 200}.items():
        for number in (step - 200, step):
            (tmp_path / "checkpoints" / training / "checkpoints" / f"step-{number:08d}").mkdir(
                parents=True
            )
    (tmp_path / "checkpoints" / "teach" / "checkpoints" / ".step-00000600.partial").mkdir()
    assert progress_made(tmp_path) == Made(iterations=600)
    (tmp_path / "steps.json").write_text('[{"name": "embed", "kind": "embed", "state": "running"}]')
    (tmp_path / "progress.json").write_text('{"step": "embed", "done": 512, "total": 9999}')
    assert progress_made(tmp_path) == Made(iterations=600, images=512)
    assert not Made(iterations=600, images=512).beyond(Made(iterations=800, images=512))


@pytest.mark.parametrize("how", ["said", "killed"])
def test_out_of_memory_is_tried_once_more_with_half_the_images(tmp_path: Path, how: str) -> None:
    failure = Failure(reason="no memory left", hint="lower it", out_of_memory=True)
    if how == "said":
        judged = judge_exit(record(exit_status=1), failure, False)
    else:
        killed = record(exit_status=None, signal=9, out_of_memory=True)
        judged = judge_exit(killed, None, False)
    assert (judged.event, judged.out_of_memory) == (Event.INTERRUPT, True)
    with Queue(tmp_path / "queue.sqlite") as queue:
        queue.submit("a", "name = 'a'", 0.0)
        queue.claim(1.0)
        again = queue.settle("a", 1, lambda _: judged, 2.0)
        assert (again.state, again.halved) == (State.QUEUED, judged.reason)
        queue.claim(100.0)
        failed = queue.settle("a", 2, lambda _: judged, 101.0)
        assert failed.state is State.FAILED
        assert str(failed.reason).endswith("also with half the images at a time")
        assert not str(failed.reason).startswith("interrupted")
        fresh = queue.submit("a", "name = 'a'", 102.0)
        assert (fresh.halved, fresh.made) == (None, Made())


def test_a_repeatable_failure_is_not_retried() -> None:
    for reason in ("data.train: no such store", "the loss is not finite"):
        assert judge_exit(record(exit_status=1), Failure(reason=reason), False).event is Event.FAIL
    assert judge_exit(record(exit_status=None, signal=11), None, False).event is Event.FAIL


V2 = {"memory.max": "16000\n", "memory.current": "15900\n",
      "memory.stat": "anon 1\nactive_file 50\ninactive_file 50\n",
      "memory.events": "low 0\noom_kill 3\n"}  # fmt: skip
V1 = {"memory.limit_in_bytes": "16000\n", "memory.usage_in_bytes": "15900\n",
      "memory.stat": "total_active_file 50\ntotal_inactive_file 50\nactive_file 9\n",
      "memory.oom_control": "oom_kill_disable 0\noom_kill 3\n"}  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_is_read_where_it_has_a_limit(tmp_path: Path, version: int) -> None:
    own = tmp_path / "cgroup"
    own.write_text("9:cpu,memory:/a/b\n" if version == 1 else "0::/a/b\n")
    top = tmp_path / "fs" / "memory" if version == 1 else tmp_path / "fs"
    files = V1 if version == 1 else V2
    (top / "a" / "b").mkdir(parents=True)
    for name, text in files.items():
        (top / "a" / name).write_text(text)
    limit = next(iter(files))
    (top / "a" / "b" / limit).write_text("max\n" if version == 2 else f"{2**63 - 4096}\n")
    group = memory_group(own, tmp_path / "fs")
    assert group is not None
    assert (group.limit, group.used, group.kills) == (16000, 15800, 3)
    (top / "a" / limit).write_text("garbage \xff")
    assert memory_group(own, tmp_path / "fs") is None
    assert memory_group(tmp_path / "none", tmp_path) is None


def test_hostile_specs_and_folders_guard_nothing(tmp_path: Path) -> None:
    for text in ("", "[[resources]]", "resources = 1", "[resources]\nhours = -1"):
        assert guards_of(Attempt(tmp_path, 1), text).look() is None
    os.mkfifo(tmp_path / "progress.json")
    os.mkfifo(tmp_path / "stall.json")
    assert stalls.stall(Attempt(tmp_path, 1), "[resources]\nstall_minutes = 1") is None


def test_a_runner_needs_no_torch() -> None:
    code = "import sys, distill.daemon.runner, distill.daemon.guards; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
