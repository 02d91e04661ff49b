"""Attempts as Slurm jobs: the runner is the batch script, on the first node of the job.

A job on one node is the runner's own child, as usual. A job on several nodes has an `srun` task on
each, ``distill.daemon.node``, so that a preemption's TERM, which goes to steps, reaches all nodes.
"""

import logging
import math
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from distill.daemon import slurm_commands as slurm
from distill.daemon.attempts import Attempt
from distill.daemon.demand import resources_in
from distill.daemon.executor import ALONE, GRACE_SECONDS, JobCommand, LaunchError, Liveness
from distill.daemon.executors.registry import executor
from distill.daemon.machine import Machine
from distill.daemon.processes import RUNNER_MODULE, id_option
from distill.daemon.runfolder import (
    FolderInUseError,
    begins_after,
    frozen_spec,
    in_use,
    locked,
    own_runner_record,
    read_runner_record,
    write_pending,
    write_runner_record,
)
from distill.launcher import NODES, RENDEZVOUS
from distill.resources import Resources
from distill.run_directory import LOG

_log = logging.getLogger("distill.daemon")

NODE_MODULE = "distill.daemon.node"

_LATER_THAN_NODES = 5.0
"""Extra grace of the runner over the nodes', in seconds: the nodes report to the runner."""
_MOST_SUBMITS = 3
"""Maximum submissions of an attempt that Slurm loses or that ends before it starts"""
_AGAIN_SECONDS = 5.0

# The first free port of the first node, where all nodes meet.
_RENDEZVOUS = (
    "import socket; s = socket.socket(); s.bind(('', 0)); "
    "print(f'{socket.gethostname()}:{s.getsockname()[1]}')"
)


@executor("slurm")
class SlurmExecutor:
    """Attempts as Slurm jobs, named after the attempt."""

    def __init__(self, command: JobCommand, grace: float = GRACE_SECONDS) -> None:
        self._command = command
        self._grace = grace
        self._listing = slurm.SlurmListing()
        self._submits: dict[Attempt, int] = {}
        self._reported: dict[Attempt, str] = {}
        self._again_at: dict[tuple[str, Attempt], float] = {}

    def capacity(self) -> Machine | None:
        return None  # Slurm assigns the resources

    def launch(self, attempt: Attempt, environment: Mapping[str, str] = ALONE) -> bool:
        entries = self._listing.entries()
        begun = own_runner_record(attempt) is not None
        if (
            entries is None
            or job_name(attempt) in entries
            or begun
            or self._too_soon("launch", attempt)
        ):
            return False
        submits = self._submits[attempt] = self._submits.get(attempt, 0) + 1
        if submits > _MOST_SUBMITS:
            raise LaunchError(
                f"it was submitted to Slurm {_MOST_SUBMITS} times and never started; the end of "
                f"its log.txt may show why"
            )
        try:
            slurm.submit(self._options(attempt), self._script(attempt))
        except slurm.SlurmBusyError:
            self._submits[attempt] = submits - 1
        except slurm.SlurmRefusedError as error:
            raise LaunchError(f"Slurm rejects the job: {error}") from None
        else:
            self._listing.add(job_name(attempt))
            _log.info("%s: submitted to Slurm as %s", attempt.run.name, job_name(attempt))
        return False

    def observe(self, attempts: Sequence[Attempt]) -> dict[Attempt, Liveness]:
        entries = self._listing.entries() if attempts else {}
        self._forget_but(set(attempts))
        for attempt in attempts:
            self._report(attempt, entries)
        return {attempt: _liveness(attempt, entries) for attempt in attempts}

    def _report(self, attempt: Attempt, entries: slurm.Entries | None) -> None:
        """Record why it has not started, for the reports."""
        [entry, *_] = [None] if entries is None else entries.get(job_name(attempt), [None])
        why = "which does not answer" if entries is None else None
        if entry is not None and entry.state == "PENDING":
            why = f"where it is pending ({entry.reason[:200]})"
        if (
            why is None
            or self._reported.get(attempt) == why
            or own_runner_record(attempt) is not None
        ):
            return
        self._reported[attempt] = why
        with suppress(OSError):  # full disk or missing folder: only this text is lost
            write_pending(attempt, f"Slurm, {why}")

    def stop(self, attempt: Attempt, kill: bool = False) -> None:
        if self._too_soon("kill" if kill else "stop", attempt):
            return
        name = job_name(attempt)
        entries = self._listing.entries()
        if entries is not None and name not in entries:
            # Slurm has given up the job, but its processes continue. They will see this record.
            write_runner_record(attempt, None)
        elif kill:
            slurm.cancel(name)
        else:
            slurm.cancel(name, "--state=PENDING")
            slurm.cancel(name, "--state=RUNNING", "--batch", "--signal=TERM")

    def close(self, attempt: Attempt) -> bool:
        entries = self._listing.entries(since=time.monotonic())
        if entries is None:
            return False
        if (name := job_name(attempt)) in entries:
            if not self._too_soon("close", attempt):
                slurm.cancel(name)
            return False
        try:
            with locked(attempt.run):
                if own_runner_record(attempt) is None:
                    write_runner_record(attempt, None)
        except FolderInUseError:
            return False
        except (FileNotFoundError, NotADirectoryError):
            pass
        return True

    def rebooted_since(self, attempt: Attempt) -> bool:
        return False  # Slurm itself reports node failures

    def _too_soon(self, what: str, attempt: Attempt) -> bool:
        """Whether the same request was made for this attempt a moment ago; records this one."""
        now = time.monotonic()
        if now < self._again_at.get((what, attempt), now):
            return True
        self._again_at[what, attempt] = now + _AGAIN_SECONDS
        return False

    def _forget_but(self, attempts: set[Attempt]) -> None:
        self._submits = {each: self._submits[each] for each in attempts & self._submits.keys()}
        self._reported = {each: self._reported[each] for each in attempts & self._reported.keys()}
        kept = {(what, of): at for (what, of), at in self._again_at.items() if of in attempts}
        self._again_at = kept

    def _options(self, attempt: Attempt) -> list[str]:
        place = re.sub(r"([\\%])", r"\\\1", str(attempt.run))  # Slurm would replace %x
        return [
            f"--job-name={job_name(attempt)}",
            f"--output={place}/{LOG}",
            "--open-mode=append",
            *options(resources(attempt), self._grace),
        ]

    def _script(self, attempt: Attempt) -> str:
        wanted = resources(attempt)
        runner = [sys.executable, "-P", "-m", RUNNER_MODULE, str(attempt.run), str(attempt.number)]
        fence = [id_option(attempt), f"--after={begins_after(attempt)}", "--foreground"]
        lines, grace, job = ["#!/bin/sh"], self._grace, self._command(attempt.run)
        if wanted.nodes > 1:
            meet = shlex.join([sys.executable, "-P", "-c", _RENDEZVOUS])
            lines.append(f'export {NODES}={wanted.nodes} {RENDEZVOUS}="$({meet})"')
            node = [sys.executable, "-P", "-m", NODE_MODULE, "--grace", str(grace), "--"]
            job, grace = [*step(wanted), *node, *job], grace + _LATER_THAN_NODES
            fence.append("--stop-with=USR1")
        command = [*runner, *fence, f"--grace={grace}", "--", *job]
        return "\n".join([*lines, "exec " + shlex.join(command), ""])


def job_name(attempt: Attempt) -> str:
    """The attempt's name in Slurm, unique among attempts of all queues."""
    return f"{slurm.PREFIX}{attempt.run.name}-{attempt.name}"


def resources(attempt: Attempt) -> Resources:
    """The resources that the frozen spec asks for."""
    return resources_in(frozen_spec(attempt.run) or "")


def options(wanted: Resources, grace: float) -> list[str]:
    """The options of `sbatch` for a job that needs ``grace`` seconds for its last checkpoint."""
    early = math.ceil(grace + 2 * _LATER_THAN_NODES)
    given = {
        "nodes": wanted.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": wanted.cpus,
        "mem": wanted.memory_bytes and f"{math.ceil(wanted.memory_bytes / 2**20)}M",
        "gres": wanted.gres or (f"gpu:{wanted.gpus}" if wanted.gpus else None),
        "time": wanted.seconds and math.ceil((wanted.seconds + early) / 60),
        "partition": wanted.partition,
        "account": wanted.account,
        "qos": wanted.qos,
        "signal": f"B:USR1@{early}",
    }
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def step(wanted: Resources) -> list[str]:
    """`srun` of one task per node."""
    nodes = [f"--nodes={wanted.nodes}", f"--ntasks={wanted.nodes}", "--ntasks-per-node=1"]
    # srun does not inherit it from sbatch.
    cpus = [f"--cpus-per-task={wanted.cpus}"] if wanted.cpus else []
    # If a node is lost, the others notice and report it themselves.
    return ["srun", *nodes, *cpus, "--mpi=none", "--kill-on-bad-exit=0", "--wait=300"]


def _liveness(attempt: Attempt, entries: slurm.Entries | None) -> Liveness:
    if entries is None:
        return Liveness.UNREACHABLE
    if job_name(attempt) in entries:
        return Liveness.ALIVE
    try:
        held = in_use(attempt.run)
    except OSError:
        return Liveness.UNREACHABLE
    newest = read_runner_record(attempt.run)
    if newest is not None and newest.name == attempt.name:
        # The folder is locked: Slurm gave up the node, but its processes continue.
        return Liveness.ALIVE if held else Liveness.GONE
    if newest is not None and held:
        return Liveness.DISPLACED
    return Liveness.UNSTARTED
