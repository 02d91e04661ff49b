"""The command `pairs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.places import locate, pairs_path, split_list
from distill.cli.reports import print_report
from distill.cli.screen import note

if TYPE_CHECKING:
    from curation.pair_sets.making import PairSet

MOST_PAIRS = 500_000
SHOWN = 3


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    app.command()(pairs)


def pairs(
    source: Annotated[
        str,
        typer.Argument(
            help="A list of pairs of files, LIST:SET for a list of pairs of the images of a store "
            "or view, or a store or view to draw pairs from, by path or workspace name.",
            show_default=False,
            autocompletion=completion.image_sets,
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            help="The verification set: a path NAME.bin or workspace name.", show_default=False
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            help="The folder that the paths of a list are relative to.",
            show_default="the list's folder",
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--pairs", min=20, max=MOST_PAIRS, help="How many pairs to draw from a store."
        ),
    ] = 6000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice.")] = 0,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out listed pairs whose images are missing or bad."),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite another file.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a verification set (.bin) from a list of pairs, or draw pairs from a store or view.

    A list has the lines of LFW's pairs.txt or CALFW's, or `PATH_A PATH_B 1` (the same person) or 0;
    its images are aligned faces of one size. Images of a store or view are named by their path in
    the source, `key:KEY`, or number, from 0. As many genuine pairs as impostor pairs are drawn, in
    ten folds that share no person; draw them from people that no student is trained on.

    **Examples**

    `curate pairs pairs.txt lfw.bin --images lfw-aligned/`

    `curate pairs my-pairs.csv mine.bin --skip-bad`

    `curate pairs my-pairs.csv:office/all office/mine`

    `curate pairs ms1m/held-out ms1m/held-out --pairs 2000 --seed 1`
    """
    from curation.pair_sets.making import drawn_pairs, pairs_of_list, write_pair_set
    from curation.views import open_images
    from curation.workspace import Workspace

    place = Workspace.locate(workspace)
    path = pairs_path(destination, place)
    listed = (Path(source), None) if Path(source).is_file() else split_list(source)
    if listed is not None:
        path_of_list, of = listed
        begins = images if of is None else open_images(locate(of, place))
        with watch("pairs", "pairs", at_once=False) as progress:
            made = pairs_of_list(path_of_list, begins, skip_bad, progress)
    else:
        held = open_images(locate(source, place))
        with watch("pairs", "images", at_once=False) as progress:
            made = drawn_pairs(held, count, seed, progress)
    if not write_pair_set(path, made, replace):
        note(f"{path} already holds these pairs; nothing to do")
    _explain(made)
    print_report(_described(path, made), as_json)


def _explain(made: "PairSet") -> None:
    for reason in made.left_out[:SHOWN]:
        note(f"left out: {reason}")
    if len(made.left_out) > SHOWN:
        note(f"left out: {len(made.left_out) - SHOWN:,} more pairs")
    if made.order is not None:
        note(
            "the list gives all pairs of one kind before the other; its pairs were spread over "
            "ten folds"
        )


def _described(path: Path, made: "PairSet") -> dict[str, Any]:
    from curation.files import file_digest
    from curation.images import probe_size

    genuine = int(made.same.sum())
    return {
        "path": str(path),
        "pairs": len(made.same),
        "same": genuine,
        "different": len(made.same) - genuine,
        "left_out": len(made.left_out),
        "images": len(set(made.images)),
        "image_size": list(probe_size(made.images[0])),
        "digest": file_digest(path),
    }
