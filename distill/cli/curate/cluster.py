"""The command `cluster`: identities for images without labels."""

from typing import Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.noise import ImagesArgument
from distill.cli.curate.places import locate, view_path
from distill.cli.model_options import TeacherOptions
from distill.cli.option_groups import grouped
from distill.cli.reports import print_report
from distill.cli.screen import note


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    app.command()(cluster)


@grouped
def cluster(
    images: ImagesArgument,
    destination: Annotated[
        str, typer.Argument(help="The view to make: a workspace name or NAME.view.")
    ],
    teacher: Annotated[
        str,
        typer.Option(
            help="As in `curate check`.", show_default=False, autocompletion=completion.teachers
        ),
    ],
    into: Annotated[
        str | None,
        typer.Option(
            help="A labelled set: faces of people in it get their identities there, and the view "
            "holds both sets.",
            show_default=False,
        ),
    ] = None,
    *,
    options: TeacherOptions,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Group images without labels into identities, by a teacher's embeddings: a view.

    Images that resemble no other stay unlabelled; existing labels are kept. NAME.cluster.tsv next
    to the view lists the groups: set a line's `apply` to no, and apply the file with `curate
    clean`, or with `curate join` after --into.

    **Examples**

    `curate cluster street/all street/people --teacher sface.onnx --colour RGB --mean 0 --std 1`

    `curate clean street/all street/reviewed --decisions people.cluster.tsv`

    `curate cluster street/all ms1m/more --into ms1m/clean --teacher sface.onnx --colour RGB
    --mean 0 --std 1`

    `curate join ms1m/clean street/all ms1m/reviewed --decisions more.cluster.tsv`
    """
    from curation.face_groups import SUFFIX, check_unlabelled, write_groups
    from curation.files import check_free
    from curation.joining import bring_together
    from curation.unlabelled import with_each_alone
    from curation.views import open_images
    from curation.workspace import Workspace
    from distill.cli.curate.set_embedder import open_embedder

    place = Workspace.locate(workspace)
    found = open_images(locate(images, place))
    path = view_path(destination, place)
    check_free(path, path.with_suffix(SUFFIX))
    check_unlabelled(found)
    both = None if into is None else bring_together(open_images(locate(into, place)), found)
    images_of_both = found if both is None else both.images
    choice = options.choice(teacher)
    embedder = open_embedder(choice, place, note)
    with watch("embed", "images") as progress:
        embedded, _ = embedder.embed(with_each_alone(images_of_both), progress)
    with watch("group", "images") as progress:
        made, table = write_groups(path, both or found, embedded, progress)
    print_report(
        {
            "path": str(path),
            "decisions": str(table),
            "images": len(made),
            "identities": made.identities,
            "grouped": images_of_both.unlabelled - made.unlabelled,
            "unlabelled": made.unlabelled,
        },
        as_json,
    )
