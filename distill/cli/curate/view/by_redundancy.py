"""Subsets without redundant images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.view.options import Destination, Parent, make_view
from distill.cli.model_options import TeacherOptions
from distill.cli.option_groups import grouped
from distill.cli.screen import note

if TYPE_CHECKING:
    from curation.image_set import ImageSet
    from curation.views import View


@grouped
def prune(
    parent: Parent,
    destination: Destination,
    teacher: Annotated[
        str,
        typer.Option(
            help="As in `curate check`.", show_default=False, autocompletion=completion.teachers
        ),
    ],
    share: Annotated[
        float, typer.Option(help="The share of the images to drop, 0 to 1.", show_default=False)
    ],
    least: Annotated[
        int,
        typer.Option(min=1, help="Keep at least this many images of each identity that has them."),
    ] = 10,
    *,
    options: TeacherOptions,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop near-duplicate images of large identities, judged by their embeddings.

    The images of an identity are ordered by their cosine to its mean embedding, and an image is
    dropped if it is close to the last one kept. The limit is the same for all identities and is
    chosen so that --share of the images are dropped.

    **Example**

    `curate view prune ms1m/train ms1m/pruned --teacher job --share 0.25`
    """
    from curation.subsets.by_redundancy import check_pruning, write_prune
    from curation.unlabelled import with_each_alone
    from curation.workspace import Workspace
    from distill.cli.curate.set_embedder import open_embedder

    check_pruning(share, least)
    choice = options.choice(teacher)

    def write(path: Path, images: "ImageSet") -> "View":
        embedder = open_embedder(choice, Workspace.locate(workspace), note)
        with watch("embed", "images", at_once=False) as progress:
            embedded, digest = embedder.embed(with_each_alone(images), progress)
        return write_prune(path, images, embedded, share, least, digest[:16])

    make_view(write, [parent], destination, workspace, as_json)
