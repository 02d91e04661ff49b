"""`curate embed`: precomputes the embeddings for `check`, on all ranks of a launcher."""

from contextlib import nullcontext
from typing import Annotated

import typer

from curation.wording import counted
from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption, print_json
from distill.cli.curate.noise import ImagesArgument
from distill.cli.curate.places import locate
from distill.cli.model_options import ModelFileOptions
from distill.cli.option_groups import grouped
from distill.cli.screen import say


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    app.command()(embed)


@grouped
def embed(
    images: ImagesArgument,
    teacher: Annotated[
        str,
        typer.Option(
            help="As in `curate check`.", show_default=False, autocompletion=completion.teachers
        ),
    ],
    *,
    file: ModelFileOptions,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute a teacher's embeddings of all images, for use by checks and jobs.

    Under torchrun the ranks of all machines share the work. If it is stopped, run the same command
    to continue.

    **Examples**

    `curate embed ms1m/train --teacher r100.onnx --colour RGB --mean 127.5 --std 127.5`

    `torchrun --nproc-per-node 8 -m distill.cli.curate embed ms1m/train --teacher job`
    """
    from curation.views import open_images
    from curation.workspace import Workspace
    from distill.cli.curate.set_embedder import open_embedder
    from distill.launcher import die_with_launcher, launched_ranks
    from distill.training.distributed import PATIENCE, process_group, rank, several_machines
    from teachers.embeddings import cache_embeddings

    die_with_launcher()
    with nullcontext() if launched_ranks() is None else process_group(PATIENCE):
        place = Workspace.locate(workspace)
        found = open_images(locate(images, place))
        choice = file.choice(teacher)
        embedder = open_embedder(choice, place).teacher
        with nullcontext() if rank() else watch("embed", "images") as progress:
            team = several_machines()
            cache = cache_embeddings(embedder, found, place.cache, progress, team)
        if rank() > 0:
            return
    folders = [str(folder) for folder in cache.folders]
    if as_json:
        print_json({"images": len(found), "cache": str(cache.folders[0]), "caches": folders})
    else:
        say(f"embedded {counted(len(found), 'image')}: {', '.join(folders)}")
