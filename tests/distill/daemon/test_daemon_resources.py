"""The GPUs, cores and memory that jobs get. The GPUs come from a fake nvidia-smi."""

import json
import os
import random
import time
from pathlib import Path

import pytest
from daemon_under_test import accept
from test_daemon_commands import Ran

from curation.errors import UserError
from distill.daemon import client
from distill.daemon.demand import Demand, demand_of
from distill.daemon.ledger import numbers
from distill.daemon.machine import Gpu, Machine, listed_gpus, read_list, visible
from distill.daemon.outcome import Outcome
from distill.daemon.placing import Placing
from distill.daemon.queue import Queue
from distill.daemon.states import Event, State
from tests.distill.daemon.harness import Harness, kill, spec, wait_until

DONE = Outcome(event=Event.SUCCEED, exit_status=0)
GPUS = tuple(Gpu(number=number, uuid=f"GPU-{number:08x}-aa") for number in range(8))
EIGHT = Machine(gpus=GPUS, cores=16, memory=10**11)
SAYS = """import os, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
said = [os.environ.get(name, "-") for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")]
(run / "said.txt").write_text(" ".join(said))
while not (run.parent / "go").exists():
    time.sleep(0.02)
"""


def needing(name: str, code: str = "pass", **resources: object) -> str:
    said = "\n".join(f"{key} = {json.dumps(value)}" for key, value in resources.items())
    return f"{spec(name, code)}[resources]\n{said}\n"


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.sqlite")


def put(queue: Queue, name: str, priority: int | None = None, **resources: object) -> None:
    queue.submit(name, needing(name, **resources), 0.0, Placing(priority=priority))


def start(queue: Queue, machine: Machine = EIGHT) -> list[str]:
    """Claim until nothing fits; returns the names in order."""
    return [job.name for _ in range(100) if (job := queue.claim(1.0, machine))]


def end(queue: Queue, name: str) -> None:
    job = queue.job(name)
    assert job is not None
    queue.settle(name, job.attempt, lambda cancelled: DONE, 2.0)


def held(queue: Queue) -> dict[str, list[int]]:
    return {name: [gpu.number for gpu in gpus] for name, gpus in queue.gpus().items()}


def test_each_job_has_its_own_gpus_until_it_ends(queue: Queue) -> None:
    for name, gpus in {"a": 3, "b": 4, "c": 2}.items():
        put(queue, name, gpus=gpus)
    assert start(queue) == ["a", "b"]
    assert held(queue) == {"a": [0, 1, 2], "b": [3, 4, 5, 6]}
    end(queue, "a")
    assert held(queue) == {"b": [3, 4, 5, 6]}
    assert start(queue) == ["c"]
    assert held(queue) == {"b": [3, 4, 5, 6], "c": [0, 1]}


def test_a_job_takes_all_gpus_or_one_per_rank_by_default(queue: Queue) -> None:
    queue.submit("ranks", spec("ranks") + "[train]\nranks = 2\n", 0.0)
    queue.submit("all", spec("all"), 0.0)
    put(queue, "none", gpus=0)
    assert start(queue) == ["ranks", "none"]
    end(queue, "ranks")
    assert start(queue) == ["all"]
    assert held(queue)["all"] == list(range(8))


def test_nothing_is_held_back_on_a_machine_without_gpus(queue: Queue) -> None:
    plain = Machine(cores=2, memory=10**9)
    queue.submit("a", spec("a"), 0.0)
    queue.submit("b", spec("b") + "[teacher.train]\nranks = 8\n", 0.0)
    assert start(queue, plain) == ["a", "b"]


def test_no_smaller_job_overtakes_one_that_waits_for_gpus(queue: Queue) -> None:
    put(queue, "first", gpus=6)
    put(queue, "big", gpus=8)
    for number in range(20):
        put(queue, f"small-{number}", gpus=1)
    put(queue, "no-gpu", gpus=0)
    assert start(queue) == ["first", "no-gpu"]
    end(queue, "first")
    assert start(queue) == ["big"]
    end(queue, "big")
    assert start(queue) == [f"small-{number}" for number in range(8)]


def test_every_kind_of_resource_is_reserved_for_a_job(queue: Queue) -> None:
    put(queue, "runs", gpus=8, cpus=8)
    put(queue, "head", gpus=8, cpus=8)
    put(queue, "cores", gpus=0, cpus=8)
    put(queue, "little", gpus=0, memory="1 GB")
    assert start(queue) == ["runs", "little"]
    end(queue, "runs")
    assert start(queue) == ["head", "cores"]


def test_cores_and_memory_are_not_promised_twice(queue: Queue) -> None:
    put(queue, "a", gpus=0, cpus=10, memory="60 GB")
    put(queue, "b", gpus=0, cpus=7)
    put(queue, "c", gpus=0, memory="50 GB")
    put(queue, "d", gpus=0, memory="40 GB")
    assert start(queue) == ["a"]
    end(queue, "a")
    assert start(queue) == ["b", "c", "d"]


def test_a_higher_priority_is_the_head_the_impossible_is_not(queue: Queue) -> None:
    put(queue, "runs", gpus=7)
    assert start(queue) == ["runs"]
    put(queue, "impossible", priority=10, gpus=9)
    put(queue, "on a cluster", priority=10, gpus=1, nodes=2)
    put(queue, "small", gpus=1)
    put(queue, "big", priority=1, gpus=2)
    assert start(queue) == []
    shares = queue.shares(EIGHT, 1.0, 10**12)
    assert shares.turn.passed == ["big"]
    end(queue, "runs")
    assert start(queue) == ["big", "small"]


def test_a_job_of_a_version_without_ledger_may_be_on_any_gpu(queue: Queue) -> None:
    queue.submit("old", spec("old"), 0.0)
    queue.claim(1.0)
    put(queue, "new", gpus=1)
    put(queue, "no-gpu", gpus=0)
    assert start(queue) == ["no-gpu"]
    end(queue, "old")
    assert start(queue) == ["new"]


@pytest.mark.parametrize("seed", range(10))
def test_no_gpu_is_ever_given_twice(queue: Queue, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(40):
        resources = {"gpus": dice.choice([0, 1, 1, 2, 4, 8]), "cpus": dice.randint(1, 16)}
        put(queue, f"j{number}", priority=dice.randint(-1, 1), **resources)
    ended, machine = 0, EIGHT
    while ended < 40:
        start(queue, machine)
        given = [number for gpus in held(queue).values() for number in gpus]
        assert len(given) == len(set(given))
        running = queue.jobs(State.RUNNING)
        assert running, "somebody always runs"
        assert sum(job.demand.cpus for job in running) <= 16
        for job in running:
            assert len(held(queue).get(job.name, [])) == job.demand.gpus
        end(queue, dice.choice(running).name)
        ended += 1
    assert held(queue) == {}


def test_the_reason_names_who_holds_each_resource(queue: Queue) -> None:
    put(queue, "r100", gpus=7)
    start(queue)
    told = {
        "big": ({"gpus": 2}, "2 GPUs, 1 is free: job r100 holds GPU 0 to 6"),
        "nine": ({"gpus": 9}, "9 GPUs, and this machine has 8"),
        "cores": ({"gpus": 0, "cpus": 99}, "99 cores, and this machine has 16"),
        "memory": ({"gpus": 0, "memory": "1 TB"}, "1 TB of memory, and this machine has 100 GB"),
        "nodes": ({"nodes": 2}, "2 nodes, which needs a cluster: `distill serve --executor slurm`"),
        "small": ({"gpus": 1}, "job big, for which free resources are reserved"),
        "free": ({"gpus": 0}, None),
    }
    for name, (resources, _) in told.items():
        put(queue, name, **resources)
    for name, (_, words) in told.items():
        job = queue.job(name)
        assert job is not None
        assert queue.shares(EIGHT, 1.0, 10**12).shortage(job.demand) == words
    assert numbers([GPUS[0], GPUS[2], GPUS[3], GPUS[4], GPUS[7]]) == "0, 2 to 4, 7"
    page = (Path(__file__).parents[3] / "docs" / "daemon.md").read_text()
    assert f"\nbig: waits for {told['big'][1]}\nsmall: waits for {told['small'][1]}\n" in page


def test_ten_thousand_jobs_that_wait_cost_a_look_little(queue: Queue) -> None:
    with queue.exclusive():
        for number in range(10_000):
            put(queue, f"j{number}", gpus=2 if number else 7)
    start(queue)
    began = time.process_time()
    for _ in range(20):
        assert queue.claim(1.0, EIGHT) is None
    assert (time.process_time() - began) / 20 < 0.02


@pytest.mark.parametrize(
    ("text", "demand"),
    [
        ("no TOML [", Demand()),
        ("resources = 3\ntrain = 4\nteacher = []", Demand()),
        ('[resources]\ngpus = "many"', Demand()),
        ("[train]\nranks = 2\n[teacher.train]\nranks = 2", Demand(ranks=2)),
        ('[resources]\ngpus = 1\ncpus = 4\nmemory = "2 GB"\ndisk = "1 TB"\nnodes = 3',
         Demand(gpus=1, cpus=4, memory=2 * 10**9, disk=10**12, nodes=3)),
    ],
)  # fmt: skip
def test_a_demand_is_read_from_any_text(text: str, demand: Demand) -> None:
    assert demand_of(text) == demand


LISTED = """GPU 0: NVIDIA H200 (UUID: GPU-5b1c4e3a-0001)
  MIG 3g.71gb     Device  0: (UUID: MIG-aaaa-01)
  MIG 3g.71gb     Device  1: (UUID: MIG-aaaa-02)
GPU 1: NVIDIA H200 (UUID: GPU-5b1c4e3a-0002)
something else
GPU 2: NVIDIA H200 (UUID: GPU-77777777-0003)
"""


def test_gpus_are_those_that_nvidia_smi_lists_or_their_parts() -> None:
    found = [(gpu.number, gpu.uuid) for gpu in read_list(LISTED)]
    assert found == [
        (0, "MIG-aaaa-01"),
        (1, "MIG-aaaa-02"),
        (2, "GPU-5b1c4e3a-0002"),
        (3, "GPU-77777777-0003"),
    ]
    assert read_list("No devices were found\n") == []


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (None, [0, 1, 2, 3]), ("", []), ("-1", []), ("2", [2]), ("3,1", [1, 3]), ("0,9,1", [0]),
        ("1,1", [1]), ("GPU-5b", [2]), ("GPU-77777777-0003, 0", [0, 3]), ("GPU-", []),
        ("MIG-aaaa-02", [1]), ("x", []), ("\u0661", []), ("9" * 9999, []),
    ],
)  # fmt: skip
def test_visible_gpus_are_read_as_cuda_reads_them(wanted: str | None, numbers: list[int]) -> None:
    assert [gpu.number for gpu in visible(read_list(LISTED), wanted)] == numbers


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvidia-smi that lists two GPUs, first in PATH."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-a)'\necho 'GPU 1: B (UUID: GPU-b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_an_nvidia_smi_that_fails_means_no_gpus(two_gpus: None, tmp_path: Path) -> None:
    assert [gpu.uuid for gpu in listed_gpus()] == ["GPU-a", "GPU-b"]
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    assert listed_gpus() == []


def submit(harness: Harness, name: str, **resources: object) -> None:
    text = needing(name, SAYS, **resources)
    client.submit(harness.workspace, name, text, False, accept)


def test_jobs_keep_their_assigned_gpus_across_daemons(harness: Harness, two_gpus: None) -> None:
    harness.start(slots=3)
    submit(harness, "a", gpus=1, cpus=1)
    assert harness.wait_for_file("a", "said.txt") == "GPU-a 1"
    harness.kill()
    submit(harness, "c", gpus=2)
    submit(harness, "b", gpus=1)
    submit(harness, "d", gpus=0)
    harness.start(slots=3)
    assert harness.wait_for_file("d", "said.txt").startswith(" ")
    told = {
        job["name"]: job for job in json.loads(Ran(harness.workspace, "status", "--json").stdout)
    }
    assert told["a"]["gpus"] == [0]
    assert "  GPU: 0\n" in Ran(harness.workspace, "show", "a").stdout
    assert told["c"]["waiting_for"] == "2 GPUs, 1 is free: job a holds GPU 0"
    assert told["b"]["waiting_for"] == "job c, for which free resources are reserved"
    assert "waits for 2 GPUs, 1 is free" in Ran(harness.workspace, "status").stdout
    runner = json.loads((harness.run("a") / "runner.json").read_text())["runner"]["pid"]
    kill(runner)
    wait_until(lambda: harness.job("a").attempt > 1 or harness.job("c").state is State.RUNNING)
    (harness.workspace.runs / "go").touch()
    for name in ("a", "b", "c", "d"):
        harness.wait_for(name, State.DONE)
    assert (harness.run("c") / "said.txt").read_text().startswith("GPU-a,GPU-b")


def test_more_than_the_machine_has_is_refused_at_submit(harness: Harness, two_gpus: None) -> None:
    for running in (False, True):
        if running:
            harness.start()
        with pytest.raises(UserError, match="job 'x' needs 3 GPUs, and this machine has 2"):
            submit(harness, "x", gpus=3)
        with pytest.raises(UserError, match="job 'x' needs 4000 cores, and this machine has"):
            submit(harness, "x", gpus=0, cpus=4000)
        with pytest.raises(UserError, match="job 'x' needs 2 nodes, which needs a cluster"):
            submit(harness, "x", nodes=2)
    assert client.jobs(harness.workspace) == []
