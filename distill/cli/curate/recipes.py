"""The commands `recipe` and `recipes`."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption, print_json
from distill.cli.curate.label_options import LabelOptions
from distill.cli.model_options import TeacherOptions
from distill.cli.option_groups import grouped
from distill.cli.reports import print_table, shown
from distill.cli.screen import note, say

if TYPE_CHECKING:
    from curation.noise.embedded import ImageSetEmbedder, TeacherChoice
    from curation.recipes.context import StepResult
    from curation.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands to ``curate``."""
    app.command()(recipe)
    app.command()(recipes)


@grouped
def recipe(
    name: Annotated[
        str,
        typer.Argument(
            help="The recipe; `curate recipes` lists them.",
            show_default=False,
            autocompletion=completion.recipes,
        ),
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            help="The folder with train.rec, .idx, property and *.bin, or any source that "
            "`curate convert` reads.",
            show_default="$MS1M_SOURCE, or sources/DATASET in the workspace",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="The name of the data set to make.", show_default="the recipe's own"),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="The teacher that finds label noise: an .onnx file, a file of weights, a "
            "bundle, or the "
            "name of a finished job.",
            show_default="the recipe's own, if any",
            autocompletion=completion.teachers,
        ),
    ] = None,
    *,
    options: TeacherOptions,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Leave bad records out and list them in quarantine.tsv in the store."
        ),
    ] = False,
    labels: LabelOptions,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=20,
            help="Repeat checking and cleaning until little changes, at most this many times in "
            "total.",
            show_default="the recipe's own",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data set with a recipe. Finished steps are skipped.

    If it is interrupted, run the same command again to continue. An output is made again if its
    inputs (decisions, the teacher, verification sets) have changed. Files that you made or edited
    are kept.

    **Examples**

    `curate recipe sample`

    `curate recipe ms1m --source /data/faces_emore`

    `curate recipe ms1m --source DIR --teacher r100.onnx --colour RGB --mean 127.5 --std 127.5`

    `curate recipe ms1m --source /data/my-faces --dataset real-faces`

    `curate recipe ms1m --teacher job --rounds 3`

    `curate recipe ms1m --source '/data/ms1mv3-{0000..0099}.tar'`

    `curate recipe ms1m --source /data/cfp/Images --dataset cfp --identity-folder 2`
    """
    from curation.errors import UserError
    from curation.recipes.file import load_recipe
    from curation.recipes.run import run_recipe
    from curation.workspace import Workspace

    place = Workspace.locate(workspace)
    if teacher is None and options != TeacherOptions():
        names = [f"--{each.name.replace('_', '-')}" for each in fields(options)]
        raise UserError(f"{', '.join(names)}: they describe a teacher; give --teacher as well")
    choice = None if teacher is None else options.choice(teacher)
    results = run_recipe(
        name,
        place,
        source,
        dataset,
        watch,
        lambda chosen: _open_embedder(chosen, place),
        choice,
        skip_bad=skip_bad,
        labels=labels.choice(),
        rounds=rounds,
        say=note,
    )
    if as_json:
        print_json([asdict(entry) | {"path": str(entry.path)} for entry in results])
    else:
        _print_results(results, place.datasets / (dataset or load_recipe(name).dataset))


def _open_embedder(choice: "TeacherChoice", workspace: "Workspace") -> "ImageSetEmbedder":
    """Open the teacher on demand: it imports onnxruntime or torch."""
    from distill.cli.curate.set_embedder import open_embedder

    return open_embedder(choice, workspace, note)


def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that `curate recipe` can run.

    **Example**

    `curate recipes --json`
    """
    from curation.recipes.file import load_recipe, recipe_names

    found = {name: load_recipe(name) for name in recipe_names()}
    if as_json:
        print_json([{"name": name, **recipe.model_dump()} for name, recipe in found.items()])
    else:
        rows = [
            (name, recipe.dataset, ", ".join(step.do for step in recipe.step), recipe.description)
            for name, recipe in found.items()
        ]
        print_table(["recipe", "data set", "steps", "result"], rows)


def _print_results(results: "list[StepResult]", folder: Path) -> None:
    say(f"in {_near(folder)}:")
    rows = [
        (
            entry.kind,
            str(entry.path.relative_to(folder))
            if entry.path.is_relative_to(folder)
            else _near(entry.path),
            "; ".join(_contents(entry)),
        )
        for entry in results
    ]
    print_table(["what", "name", "contents"], rows)


def _contents(entry: "StepResult") -> Iterator[str]:
    if entry.images is not None:
        people = "" if entry.identities is None else f" of {shown(entry.identities)} identities"
        yield f"{shown(entry.images)} images{people}"
    if entry.note:
        yield entry.note
    if entry.reused:
        yield "made earlier"


def _near(path: Path) -> str:
    """The path, relative to the current folder if that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
