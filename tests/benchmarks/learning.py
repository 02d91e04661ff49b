"""What every part of the recipes brings, on real faces: the ablation of docs/benchmarks.md.

Run: just bench-learning --data FOLDER [--workspace DIR] [--at-once N] [--only STUDENT] [--page]
FOLDER has faces/ with train.rec, test.rec, lfw.bin, cfp_ff.bin and cfp_fp.bin, and a teacher,
teacher/FILE.onnx, which takes 112x112 RGB and normalises itself, as SFace does. Every row is a job
of the product, one core each, ``--at-once`` at a time. Stopped at any moment, the same command goes
on; what is trained is not trained again. The table is of what is there so far. ``--epochs`` trains
longer, in a workspace of its own, on a GPU. ``--page`` writes table and plot into docs/.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from learning_page import show, write_page
from learning_recipes import RECIPES, STUDENTS, Student, chains, job_name, spec
from learning_scores import Scorer

from curation.conversion.convert import convert
from curation.views import open_images
from curation.workspace import Workspace

PAIRS = ("lfw", "cfp_ff", "cfp_fp")


def prepare(data: Path, teacher: Path, workspace: Workspace) -> None:
    """Bring the faces and the teacher into the workspace."""
    folder = workspace.datasets / "faces"
    for name in ("train", "test"):
        if not (folder / f"{name}.lmdb").exists():
            convert(data / f"{name}.rec", folder / f"{name}.lmdb")
    workspace.teachers.mkdir(parents=True, exist_ok=True)
    wanted = [(data / f"{name}.bin", folder / f"{name}.bin") for name in PAIRS]
    for source, target in [*wanted, (teacher, workspace.teachers / teacher.name)]:
        if not target.exists():
            target.write_bytes(source.read_bytes())


def tasks(students: list[Student]) -> list[tuple[Student, int, list[str]]]:
    """Student, seed and recipes to be trained one after the other; the longest first."""
    found = []
    for student in students:
        for seed in student.seeds:
            left_out = () if seed == student.seeds[0] else student.once
            recipes = [recipe for recipe in student.recipes if recipe not in left_out]
            found += [(student, seed, chain) for chain in chains(recipes)]
    return sorted(found, key=lambda task: -RECIPES[task[2][-1]][1])


def train(student: Student, seed: int, recipes: list[str], teacher: str, space: Workspace) -> None:
    """The jobs of one student and seed, one after the other."""
    images = len(open_images(space.image_set("faces/train")))
    specs = space.root / "specs"
    specs.mkdir(exist_ok=True)
    for recipe in recipes:
        name = job_name(student, recipe, seed)
        path = specs / f"{name}.toml"
        path.write_text(spec(student, recipe, seed, teacher, images // 32))
        with (specs / f"{name}.log").open("a") as log:
            command = [sys.executable, "-m", "distill.cli.main", "run", str(path)]
            command += ["--workspace", str(space.root)]
            one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, stderr=log, stdout=log, env=one_core, check=False)
        sys.stderr.write(
            f"{name}: {'done' if done.returncode == 0 else f'failed, see {log.name}'}\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    given = os.environ.get("FACE_DISTILL_REAL_DATA")
    parser.add_argument("--data", type=Path, default=given, required=given is None)
    parser.add_argument("--teacher", default="sface.onnx", help="a file in FOLDER/teacher")
    parser.add_argument("--workspace", type=Path, default=Path("workspace-learning"))
    parser.add_argument("--at-once", type=int, default=2, help="trainings at the same time")
    parser.add_argument("--epochs", type=int, help="of a generation, instead of the student's own")
    names = [student.name for student in STUDENTS]
    parser.add_argument("--only", choices=names, nargs="*", help="train these; all are shown")
    parser.add_argument("--no-training", action="store_true", help="only the table, so far")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    workspace = Workspace.locate(options.workspace)
    prepare(options.data / "faces", options.data / "teacher" / options.teacher, workspace)
    wanted = options.only or names
    students = [
        replace(one, epochs=options.epochs or one.epochs) if one.name in wanted else one
        for one in STUDENTS
    ]
    if not options.no_training:
        chosen = [student for student in students if student.name in wanted]
        with ThreadPoolExecutor(options.at_once) as pool:
            jobs = [pool.submit(train, *task, options.teacher, workspace) for task in tasks(chosen)]
        for job in jobs:
            job.result()
    scorer = Scorer(workspace, [*PAIRS, "test"])
    results = scorer.results(students, options.teacher)
    if options.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    else:
        show(results)
    if options.page:
        write_page(results, scorer.curves(students[0]), students[0])


if __name__ == "__main__":
    main()
