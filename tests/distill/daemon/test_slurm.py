"""Jobs in a real Slurm: effects of other users, of Slurm itself, and of crashes."""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from distill.daemon import client, stopping
from distill.daemon.executors.slurm import SlurmExecutor
from distill.daemon.records import ExitRecord
from distill.daemon.states import State
from distill.fence import TAG_VARIABLE
from distill.run_directory import EXIT, LOG, found
from tests.distill.daemon.harness import Harness, is_alive, kill, wait_until
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

# The first attempt saves at a TERM; later ones run to their end. Never two at the same time.
JOB = """
import fcntl, os, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1])
rank = os.environ.get("SLURM_PROCID", "0")
alone = open(run / f"alone-{rank}", "a")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (run / "two-at-once").touch()
def save(number, frame):
    (run / f"saved-{rank}").touch()
    raise SystemExit(143)
signal.signal(signal.SIGTERM, save)
starts = run / f"starts-{rank}"
with starts.open("a") as file:
    file.write(os.environ["DISTILL_ATTEMPT"].rpartition("#")[2] + "\\n")
(run / f"pid-{rank}").write_text(str(os.getpid()))
if len(starts.read_text().split()) == 1:
    time.sleep(ENDS)
"""
TWO_NODES = "\n[resources]\nnodes = 2\ncpus = 1\n"


class SlurmHarness(Harness):
    """A daemon that runs its jobs in Slurm."""

    executor = SlurmExecutor

    def begin(self, name: str, ends: float = 100, more: str = "") -> None:
        """Submit the job, whose first attempt ends after ``ends`` seconds; wait until it runs."""
        self.submit(name, JOB.replace("ENDS", str(ends)), more=more)
        for rank in range(2 if "nodes" in more else 1):
            self.wait_for_file(name, f"pid-{rank}")

    def starts(self, name: str) -> list[str]:
        """The attempts that ran, in order."""
        return (self.run(name) / "starts-0").read_text().split()

    def cancel(self, name: str) -> None:
        stopping.cancel(self.workspace, [name])

    def pid(self, name: str, rank: int = 0) -> int:
        return int((self.run(name) / f"pid-{rank}").read_text())

    def done_after(self, name: str, attempts: int) -> None:
        """Wait for its end; that many attempts ran, each once, and one at a time."""
        self.wait_for(name, State.DONE)
        starts = self.starts(name)
        assert len(starts) == len(set(starts)) == attempts, (starts, self.log(name))
        assert not (self.run(name) / "two-at-once").exists()

    def log(self, name: str) -> str:
        return (self.run(name) / LOG).read_text()


@pytest.fixture
def slurm(cluster: Cluster, tmp_path: Path) -> Iterator[SlurmHarness]:
    made = SlurmHarness(tmp_path / "workspace")
    made.start(slots=5, grace=5.0)
    yield made
    made.clean_up()


def why(slurm: SlurmHarness, name: str) -> list[str]:
    """The reasons of its interruptions."""
    history = client.history(slurm.workspace, name)
    return [line.reason or "" for line in history if line.event == "interrupt"]


def test_a_job_that_slurm_refuses_fails_with_its_words(slurm: SlurmHarness) -> None:
    slurm.submit("a", more="\n[resources]\npartition = 'nowhere'\n")
    reason = slurm.wait_for("a", State.FAILED).reason or ""
    assert "Slurm rejects the job" in reason
    assert "partition" in reason


def test_a_job_of_two_nodes_is_stopped_with_a_checkpoint(slurm: SlurmHarness) -> None:
    slurm.begin("a", more=TWO_NODES)
    slurm.cancel("a")
    slurm.wait_for("a", State.CANCELLED)
    assert {path.name for path in slurm.run("a").glob("saved-*")} == {"saved-0", "saved-1"}


def test_a_job_that_waits_in_slurm_is_cancelled_there(
    slurm: SlurmHarness, cluster: Cluster
) -> None:
    slurm.submit("a", more="\n[resources]\ncpus = 4\nnodes = 2\n", code=JOB.replace("ENDS", "100"))
    slurm.submit("b", more="\n[resources]\ncpus = 4\n")
    waiting = slurm.wait_for("b", State.RUNNING).attempt_id
    wait_until(lambda: cluster.ids(waiting), "it waits in Slurm")
    told = "Slurm, where it is pending (Resources)"
    wait_until(lambda: client.find_report(slurm.workspace, "b").waiting_for == told, told)
    slurm.cancel("b")
    slurm.wait_for("b", State.CANCELLED)
    assert not cluster.ids(waiting)
    assert not (slurm.run("b") / EXIT).exists()


def test_a_strangers_scancel_is_an_interruption(slurm: SlurmHarness, cluster: Cluster) -> None:
    slurm.begin("a")
    [job] = cluster.ids(slurm.job("a").attempt_id)
    cluster.ask("scancel", job)
    slurm.done_after("a", 2)
    assert "SIGTERM" in why(slurm, "a")[0]
    assert (slurm.run("a") / "saved-0").exists()


def test_slurms_own_requeue_makes_no_second_run(slurm: SlurmHarness, cluster: Cluster) -> None:
    slurm.begin("a", ends=4)
    [job] = cluster.ids(slurm.job("a").attempt_id)
    assert "disabled" in cluster.ask("scontrol", "requeue", job)
    cluster.ask("scontrol", "update", f"jobid={job}", "requeue=1")
    cluster.ask("scontrol", "requeue", job)
    slurm.done_after("a", 2)


def test_before_its_time_is_over_a_job_saves_and_continues(
    slurm: SlurmHarness, cluster: Cluster
) -> None:
    slurm.begin("a")
    [job] = cluster.ids(slurm.job("a").attempt_id)
    cluster.ask("scancel", "--batch", "--signal=USR1", job)  # like --signal=B:USR1@N
    slurm.done_after("a", 2)
    assert why(slurm, "a") == ["interrupted: the time that Slurm gave it was almost over"]
    assert (slurm.run("a") / "saved-0").exists()


def test_a_preempted_job_saves_and_continues_later(slurm: SlurmHarness, cluster: Cluster) -> None:
    slurm.begin("a", more="\n[resources]\nnodes = 2\ncpus = 4\n")
    blocking = ["--wrap=sleep 3", "--partition=high", "--nodes=2", "--exclusive"]
    cluster.ask("sbatch", *blocking, f"--output={cluster.folder}/jobs/high.txt")
    slurm.done_after("a", 2)
    assert (slurm.run("a") / "saved-0").exists()
    assert (slurm.run("a") / "saved-1").exists()


def test_a_killed_rank_interrupts_the_job(slurm: SlurmHarness) -> None:
    slurm.begin("a", more=TWO_NODES)
    kill(slurm.pid("a", rank=1))
    kill(slurm.pid("a", rank=0), signal.SIGTERM)  # like ranks that lost another
    slurm.done_after("a", 2)
    assert "SIGKILL" in why(slurm, "a")[0] or "SIGTERM" in why(slurm, "a")[0]


def test_jobs_outlive_the_daemon(slurm: SlurmHarness) -> None:
    slurm.begin("a", ends=3)
    slurm.kill()
    slurm.start(slots=5, grace=5.0)
    slurm.done_after("a", 1)


def test_nothing_is_concluded_while_slurm_does_not_answer(
    slurm: SlurmHarness, cluster: Cluster
) -> None:
    slurm.begin("short", ends=12)
    slurm.begin("long", ends=100)
    time.sleep(6)  # slurmctld saves its state every 5 s, and forgets anything newer
    cluster.kill("ctld")
    try:
        slurm.done_after("short", 1)  # by its record
        slurm.submit("later", JOB.replace("ENDS", "0"))
        time.sleep(12)
        assert slurm.job("long").state is State.RUNNING
        assert is_alive(slurm.pid("long"))
        assert not slurm.run("later").joinpath("starts-0").exists()
    finally:
        cluster.revive("ctld")
    slurm.done_after("later", 1)
    assert slurm.starts("long") == [f"1-{slurm.job('long').attempt_id}"]
    slurm.cancel("long")
    slurm.wait_for("long", State.CANCELLED)


def test_jobs_that_slurm_forgot_run_once(slurm: SlurmHarness, cluster: Cluster) -> None:
    """slurmctld is killed right after accepting them: some are lost, and ids are reused."""
    names = ["a", "b", "c"]
    for name in names:
        slurm.submit(name, JOB.replace("ENDS", "2"))
    wait_until(lambda: cluster.ids("distill-"), "Slurm has one")
    cluster.kill("ctld")
    cluster.revive("ctld")
    for name in names:
        slurm.wait_for(name, State.DONE)
        starts = slurm.starts(name)
        assert len(starts) == len(set(starts)), "an attempt ran twice"
        assert not (slurm.run(name) / "two-at-once").exists()


def node_of(pid: int) -> str:
    """The emulated node that a process runs on."""
    return psutil.Process(pid).environ()["SLURMD_NODENAME"]


def given_up(cluster: Cluster, node: str) -> None:
    """Its slurmd dies permanently; Slurm gives up the node without its usual delay."""
    cluster.kill(node)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=dead")


@pytest.fixture
def nodes_again(cluster: Cluster) -> Iterator[None]:
    yield
    for node in ("n1", "n2"):
        cluster.revive(node)
        cluster.ask("scontrol", "update", f"nodename={node}", "state=resume")
    wait_until(
        lambda: cluster.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * 2
    )


def test_a_job_on_an_abandoned_node_may_end(
    slurm: SlurmHarness, cluster: Cluster, nodes_again: None
) -> None:
    slurm.begin("a", ends=6)
    given_up(cluster, node_of(slurm.pid("a")))
    wait_until(lambda: not cluster.ids(slurm.job("a").attempt_id), "Slurm has given it up")
    slurm.done_after("a", 1)


def test_a_job_on_an_abandoned_node_is_cancelled(
    slurm: SlurmHarness, cluster: Cluster, nodes_again: None
) -> None:
    """Slurm cannot reach it any more, but the run folder can."""
    slurm.begin("a")
    left = slurm.pid("a")
    given_up(cluster, node_of(left))
    slurm.cancel("a")
    slurm.wait_for("a", State.CANCELLED)
    wait_until(lambda: not is_alive(left), "it has noticed")


def test_gpus_are_requested_and_assigned(slurm: SlurmHarness, cluster: Cluster) -> None:
    if not cluster.gpus:
        pytest.skip("there are no devices to play GPUs")
    given = "os.environ['CUDA_VISIBLE_DEVICES']"
    code = f"import os, sys; open(sys.argv[1] + '/gpus', 'w').write({given})"
    slurm.submit("a", code, more="\n[resources]\ngpus = 2\n")
    assert slurm.wait_for_file("a", "gpus") == "0,1"
    slurm.submit("b", code, more="\n[resources]\ngpus = 3\n")
    assert "configuration is not available" in (slurm.wait_for("b", State.FAILED).reason or "")


def test_of_two_writers_the_old_one_ends_without_a_word(
    slurm: SlurmHarness, cluster: Cluster, nodes_again: None
) -> None:
    """Simulates locks that fail across machines: the old one locks another folder."""
    slurm.begin("a")
    old, run = slurm.pid("a"), slurm.run("a")
    node = node_of(old)
    cluster.kill(node)
    shutil.copytree(run, run.with_name("copy"))
    run.rename(run.with_name("elsewhere"))
    run.with_name("copy").rename(run)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=dead")
    wait_until(lambda: len(slurm.starts("a")) == 2, "the next attempt has begun")
    wait_until(lambda: not is_alive(old), "the old one has noticed")
    slurm.wait_for("a", State.DONE)
    record = found(run / EXIT, ExitRecord)
    assert record is not None
    assert record.attempt == 2
    assert "another attempt has started" in (run.with_name("elsewhere") / LOG).read_text()


def test_a_job_whose_slurmstepd_is_killed_may_end(slurm: SlurmHarness, cluster: Cluster) -> None:
    slurm.begin("a", ends=4)
    runner = psutil.Process(slurm.pid("a")).parents()
    [step, *_] = [each for each in runner if each.name().startswith("slurmstepd")]
    step.kill()
    slurm.done_after("a", 1)
    cluster.ask("scancel", *cluster.ids(slurm.job("a").attempt_id))


def test_nothing_of_a_job_is_left_on_any_node(slurm: SlurmHarness) -> None:
    child = "subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    slurm.submit("a", f"import subprocess; {child}", more=TWO_NODES)
    slurm.wait_for("a", State.DONE)
    wait_until(lambda: not tagged(slurm.run("a")), "nothing is left")


def tagged(run: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TAG_VARIABLE, "").startswith(f"{run}#"):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
