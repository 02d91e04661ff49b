"""Slurm, if it is installed."""

import shutil
from collections.abc import Iterator

from curation.workspace import Workspace
from distill.doctor.children import NoAnswerError, ask
from distill.doctor.examination import Diagnosis, check, ok, warning, wrong

_ASK_SECONDS = 15.0
_PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")


@check("slurm")
def slurm(workspace: Workspace) -> Iterator[Diagnosis]:
    """Whether Slurm's programs exist and its controller responds."""
    there = [name for name in _PROGRAMS if shutil.which(name)]
    if not there:
        yield ok("not installed: jobs run on this machine")
        return
    if missing := [name for name in _PROGRAMS if name not in there]:
        yield wrong(f"{', '.join(missing)} cannot be found", "`module load slurm`, or fix PATH")
        return
    try:
        listed = ask(["sinfo", "-h", "-o", "%R %D %a %G"], _ASK_SECONDS)
    except NoAnswerError as error:
        yield warning(
            f"its controller does not answer: {error}",
            "`scontrol ping`; jobs of `distill serve --executor slurm` wait meanwhile",
        )
        return
    yield judge_partitions(listed)


def judge_partitions(listed: str) -> Diagnosis:
    """``listed`` has a line per partition: name, nodes, whether it is up, and GRES."""
    partitions = [line.split() for line in listed.splitlines() if len(line.split()) >= 3]
    up = [f"{name} ({nodes} nodes)" for name, nodes, state, *_ in partitions if state == "up"]
    if not up:
        return warning("no partition is up", "`sinfo` shows why")
    return ok(f"partitions {', '.join(up[:10])}{' and more' if len(up) > 10 else ''}")
