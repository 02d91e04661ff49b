"""A model and the sets it is scored on, as the command line names them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.curate.noise import teacher_choice

if TYPE_CHECKING:
    from curation.workspace import Workspace
    from distill.evaluation.set_features import EvaluationSet, SetFeatures

LIST_SUFFIXES = (".txt", ".csv", ".tsv")
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A bundle, a finished job, an .onnx file or a file of weights (with --mean, --std and "
        "--colour), or a folder of embeddings, SET.npy.",
        show_default=False,
        autocompletion=completion.teachers,
    ),
]
SetsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SET...",
        help="A .bin of pairs, a list of pairs (.txt, .csv, .tsv), or a store or view, whose "
        "images are all compared; by path or name in the workspace.",
        show_default=False,
        autocompletion=completion.image_sets,
    ),
]
ImagesFolderOption = Annotated[
    Path | None,
    typer.Option("--images", help="The folder where the paths of a list of pairs begin."),
]


@dataclass(frozen=True)
class ModelOptions:
    """A network as the command line names it."""

    name: str
    backbone: str | None
    part: str | None
    mean: float | None
    std: float | None
    colour: str | None
    size: int


def open_model(model: ModelOptions, place: "Workspace") -> "SetFeatures":
    """What a model of any kind answers; ``UserError`` where there is none."""
    from distill.cli.curate.set_embedder import open_embedder
    from distill.evaluation.set_features import FEATURES, GivenFeatures, NetworkFeatures

    folder = Path(model.name)
    if folder.is_dir() and any(folder.glob("*.npy")) and not (folder / "config.json").exists():
        return GivenFeatures(folder)
    choice = teacher_choice(
        model.name,
        model.backbone,
        model.part,
        model.colour,
        model.mean,
        model.std,
        model.size,
        None,
    )
    return NetworkFeatures(open_embedder(choice, place).teacher, place.cache / FEATURES)


def open_set(name: str, place: "Workspace", images: Path | None = None) -> "EvaluationSet":
    """A set by path or name in the workspace, which gives some score; else ``UserError``."""
    from curation.errors import UserError
    from curation.pairs import VerificationPairs, read_pairs
    from curation.views import open_images
    from distill.cli.curate.places import locate
    from distill.evaluation.measurable import check_all_pairs, check_measurable

    path = Path(name) if Path(name).suffix in LIST_SUFFIXES else locate(name, place)
    try:
        if path.suffix in LIST_SUFFIXES:
            found: EvaluationSet = listed_pairs(path, images)
        else:
            found = read_pairs(path) if path.suffix == ".bin" else open_images(path)
        if isinstance(found, VerificationPairs):
            check_measurable(found)
        else:
            check_all_pairs(found)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{name}: {error}") from None
    return found


def listed_pairs(path: Path, images: Path | None) -> "EvaluationSet":
    """The pairs of a list as a set of the list's name."""
    import hashlib

    from curation.pair_sets.making import pairs_of_list
    from curation.pairs import VerificationPairs

    with watch("read", "pairs") as progress:
        made = pairs_of_list(path, images, progress=progress)
    digest = hashlib.sha256(made.same.tobytes())
    for image in made.images:
        digest.update(hashlib.sha256(image).digest())
    return VerificationPairs(list(made.images), made.same, digest.hexdigest(), path.stem)


def shown_interval(interval: list[float] | None) -> str:
    """The lowest and the highest, for people."""
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
