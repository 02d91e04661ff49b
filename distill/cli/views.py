"""The command `views`, which shows augmented views."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from curation.wording import counted
from curation.workspace import Workspace
from distill.cli.bars import watch
from distill.cli.common import JOBS, JsonOption, SetOption, WorkspaceOption, print_json
from distill.cli.screen import note, say

if TYPE_CHECKING:
    from curation.toml_positions import Location
    from distill.pipeline.view_sheet import SheetView


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=JOBS)(views)


def views(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A job spec with augmented views.")],
    sheet: Annotated[Path, typer.Option("--sheet", help="The PNG file to write.")],
    images: Annotated[
        int,
        typer.Option(
            "--images", min=1, max=200, help="The number of images to draw at random: the rows."
        ),
    ] = 6,
    most: Annotated[
        int,
        typer.Option(
            "--views",
            min=1,
            max=200,
            help="At most this many augmented views of each image: the columns.",
        ),
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the choice of images.")] = 0,
    overrides: SetOption = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show augmented views of a job's images as student and teacher see them, on one sheet.

    Below each view are its number and the cosine of the teacher's embeddings of the view and of
    the plain image; "mix" if another image is blended in, "x" if the cosine is below
    augment.least_cosine, so the view is not used. The job does not need to have run.

    Example: distill views jobs/mine.toml --sheet views.png
    """
    import numpy as np

    from curation.files import atomic_file, check_writable
    from distill.pipeline.beginning import given_beginning
    from distill.pipeline.fit import given_teacher, student_architecture
    from distill.pipeline.image_fit import check_image_sizes, input_sizes
    from distill.pipeline.training_images import open_training_images
    from distill.pipeline.view_sheet import make_sheet
    from distill.spec_text import SpecFile

    if sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {sheet}: the sheet is a PNG file; end its name in .png")
    check_writable(sheet)
    given, place = SpecFile.read(spec, overrides or ()), Workspace.locate(workspace)
    job = given.job
    if job.student is None or not job.augment.augments:
        raise UserError(
            f"{spec}: the student sees only the images and their mirror images; add [augment] "
            f"with views = 16"
        )
    with given.placed():
        data = open_training_images(job.data, place)
        teacher = given_teacher(job, place)
        length = None if teacher is None else teacher.embedding
        student = student_architecture(job, length, given_beginning(job.student, place))
        assert student is not None
        networks: dict[Location, list[tuple[int, int]]] = {
            ("student", "input_size"): [student.input_size]
        }
        if teacher is not None:
            networks["teacher",] = input_sizes(teacher)
        check_image_sizes(job, data, {}, networks)
    look = student.preprocessing
    drawn = np.random.default_rng(seed).permutation(len(data))[:images]
    with watch("views", "images") as progress:
        made = make_sheet(job.augment, data, look, teacher, drawn.tolist(), most, progress)
    with atomic_file(sheet) as file:
        file.write(made.png())
    summary = _summary(made.views)
    if json:
        print_json({"sheet": str(sheet), **summary, "views": [asdict(view) for view in made.views]})
        return
    if teacher is None and job.teacher is not None:
        note("warning: the teacher is not trained yet, so no cosines are shown")
    cosines = _cosines(summary)
    augmented = counted(summary["augmented"], "augmented view")
    say(f"{sheet}: {counted(len(drawn), 'image')}, {augmented}{cosines}")


def _summary(views: "list[SheetView]") -> dict[str, Any]:
    """The numbers of the sheet; cosines only of views without mixing."""
    from statistics import median

    from distill.training.views import PLAIN

    augmented = [view for view in views if view.number != PLAIN]
    found = [view.cosine for view in augmented if view.cosine is not None and not view.mixed]
    return {
        "augmented": len(augmented),
        "median_cosine": round(median(found), 4) if found else None,
        "lowest_cosine": min(found, default=None),
        "unused": sum(not view.used for view in augmented),
    }


def _cosines(summary: dict[str, Any]) -> str:
    if summary["median_cosine"] is None:
        return ""
    return (
        f"; cosine to the plain image: median {summary['median_cosine']:.3f}, lowest "
        f"{summary['lowest_cosine']:.3f}; below augment.least_cosine: {summary['unused']}"
    )
