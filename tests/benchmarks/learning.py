"""The effect of every part of the recipes, on real faces: the ablation of docs/benchmarks.md.

Run: just bench-learning --data FOLDER [--workspace DIR] [--at-once N] [--seeds 0 1 2] [--page]
     [--only STUDENT[/RECIPE] ...]
FOLDER has faces/ with train.rec, test.rec, lfw.bin, cfp_ff.bin and cfp_fp.bin, and a teacher
teacher/FILE.onnx that takes 112x112 RGB and normalises it itself, like SFace. Every row is a job on
one core, ``--at-once`` at a time; recipes and students are defined in learning_recipes.py. Run the
same command again to resume; finished trainings are not repeated. The tables contain the results so
far and those of other runs in learning_results.json. ``--page`` writes them into
docs/benchmarks.md, with a plot, and the results into that file.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from learning_page import bars, tables, write_page
from learning_recipes import RECIPES, STUDENTS, Student, chains, job_name, passes, spec
from learning_results import merged, read_results, write_results
from learning_scores import PAIRS, Scorer

from curation.conversion.convert import convert
from curation.json_text import as_json
from curation.views import open_images
from curation.workspace import Workspace


def prepare(data: Path, teacher: Path, workspace: Workspace) -> None:
    """Copy the faces and the teacher into the workspace."""
    folder = workspace.datasets / "faces"
    for name in ("train", "test"):
        if not (folder / f"{name}.lmdb").exists():
            convert(data / f"{name}.rec", folder / f"{name}.lmdb")
    workspace.teachers.mkdir(parents=True, exist_ok=True)
    wanted = [(data / f"{name}.bin", folder / f"{name}.bin") for name in PAIRS]
    for source, target in [*wanted, (teacher, workspace.teachers / teacher.name)]:
        if not target.exists():
            target.write_bytes(source.read_bytes())


def chosen(only: Sequence[str]) -> list[Student]:
    """The students of "STUDENT" and "STUDENT/RECIPE" with those recipes; all if empty.

    A recipe that begins where another ended brings that one.
    """
    found = []
    for student in STUDENTS:
        asked = {name.partition("/")[2] for name in only if name.split("/")[0] == student.name}
        asked |= {RECIPES[recipe].begins for recipe in asked - {""}} - {""}
        if not only or "" in asked:
            found.append(student)
        elif asked:
            found.append(replace(student, recipes=tuple(r for r in student.recipes if r in asked)))
    return found


def tasks(
    students: Sequence[Student], seeds: Sequence[int]
) -> list[tuple[Student, int, list[str]]]:
    """Student, seed and recipes to be trained one after the other; the longest first."""
    found = [
        (student, seed, chain)
        for student in students
        for seed in seeds
        for chain in chains(student.recipes)
    ]
    return sorted(found, key=lambda task: -_passes(task[0], task[2][-1]))


def _passes(student: Student, recipe: str) -> int:
    return passes(student, recipe, RECIPES[recipe].generations)


def train(student: Student, seed: int, recipes: list[str], teacher: str, space: Workspace) -> None:
    """The jobs of one student and seed, one after the other."""
    images = len(open_images(space.image_set("faces/train")))
    for recipe in recipes:
        name = job_name(student, recipe, seed)
        run_job(name, spec(student, recipe, seed, teacher, images // 32), space)


def run_job(name: str, text: str, space: Workspace) -> None:
    """The job of this spec, on one core; reused if it is done."""
    path = space.root / "specs" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with path.with_suffix(".log").open("a") as log:
        command = [sys.executable, "-m", "distill.cli.main", "run", str(path)]
        command += ["--workspace", str(space.root)]
        one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stderr=log, stdout=log, env=one_core, check=False)
    sys.stderr.write(f"{name}: {'done' if done.returncode == 0 else f'failed, see {log.name}'}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    given = os.environ.get("FACE_DISTILL_REAL_DATA")
    parser.add_argument("--data", type=Path, default=given, required=given is None)
    parser.add_argument("--teacher", default="sface.onnx", help="a file in FOLDER/teacher")
    parser.add_argument("--workspace", type=Path, default=Path("workspace-learning"))
    parser.add_argument("--at-once", type=int, default=2, help="trainings at the same time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    names = [student.name for student in STUDENTS]
    names += [f"{student.name}/{recipe}" for student in STUDENTS for recipe in student.recipes]
    parser.add_argument("--only", choices=names, nargs="*", default=[], metavar="STUDENT[/RECIPE]")
    parser.add_argument("--no-training", action="store_true", help="only the tables, so far")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    workspace = Workspace.locate(options.workspace)
    prepare(options.data / "faces", options.data / "teacher" / options.teacher, workspace)
    students = chosen(options.only)
    if not options.no_training:
        with ThreadPoolExecutor(options.at_once) as pool:
            waiting = tasks(students, options.seeds)
            jobs = [pool.submit(train, *task, options.teacher, workspace) for task in waiting]
        for job in jobs:
            job.result()
    scorer, kept = Scorer(workspace, options.teacher), read_results()
    if all(result.recipe != options.teacher for result in kept):  # the teacher is slow
        kept.insert(0, scorer.of_teacher())
    results = merged(kept, scorer.results(STUDENTS, options.seeds))
    if options.json:
        sys.stdout.write(as_json([asdict(result) for result in results], indent=1) + "\n")
    else:
        sys.stdout.write(tables(results) + "\n" + "".join(f"- {line}\n" for line in bars(results)))
    if options.page:
        write_results(results)
        write_page(results)


if __name__ == "__main__":
    main()
