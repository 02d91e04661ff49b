"""A model and the sets it is scored on, as the command line names them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.curate.noise import teacher_choice

if TYPE_CHECKING:
    from curation.pairs import VerificationPairs
    from curation.store import ImageSet
    from curation.workspace import Workspace
    from distill.evaluation.protocols.protocol import TemplateWeights
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
        "images are all compared; by path or name in the workspace. A published protocol by "
        "NAME:FOLDER (ijbb, ijbc, tinyface, lfr, megaface).",
        show_default=False,
        autocompletion=completion.image_sets,
    ),
]
ImagesFolderOption = Annotated[
    Path | None,
    typer.Option("--images", help="The folder where the paths of a list of pairs begin."),
]
_WEIGHTS = ("norm+detector", "norm", "detector", "none")
TemplateWeightsOption = Annotated[
    str,
    typer.Option(
        help=f"What weighs the images of a template (IJB): {', '.join(_WEIGHTS)}. The norm of the "
        "feature, and the detector's score.",
    ),
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


def template_weights_of(given: str) -> "TemplateWeights":
    """What `TemplateWeightsOption` says."""
    from curation.errors import UserError
    from distill.evaluation.protocols.protocol import TemplateWeights

    if given not in _WEIGHTS:
        raise UserError(f"--template-weights {given}: allowed are {', '.join(_WEIGHTS)}")
    return TemplateWeights("norm" in given, "detector" in given)


def open_set(
    name: str,
    place: "Workspace",
    images: Path | None = None,
    weights: "TemplateWeights | None" = None,
) -> "EvaluationSet":
    """A set by path or name in the workspace, or a protocol by NAME:FOLDER, which gives some score;
    else ``UserError``."""
    from distill.evaluation.protocols.protocol import TemplateWeights, open_protocol, split_name

    if (named := split_name(name)) is not None and not Path(name).exists():
        return open_protocol(*named, TemplateWeights() if weights is None else weights)
    return open_faces(name, place, images)


def open_faces(
    name: str, place: "Workspace", images: Path | None = None
) -> "VerificationPairs | ImageSet":
    """Pairs or images by path or name in the workspace, which give some score."""
    from curation.errors import UserError
    from curation.pairs import VerificationPairs, read_pairs
    from curation.views import open_images
    from distill.cli.curate.places import locate
    from distill.evaluation.measurable import check_all_pairs, check_measurable
    from distill.evaluation.protocols.protocol import split_name

    if split_name(name) is not None and not Path(name).exists():
        raise UserError(
            f"{name} is a protocol, which `distill evaluate` takes; give a set of pairs or images"
        )
    path = Path(name) if Path(name).suffix in LIST_SUFFIXES else locate(name, place)
    try:
        if path.suffix in LIST_SUFFIXES:
            found: VerificationPairs | ImageSet = listed_pairs(path, images)
        else:
            found = read_pairs(path) if path.suffix == ".bin" else open_images(path)
        if isinstance(found, VerificationPairs):
            check_measurable(found)
        else:
            check_all_pairs(found)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{name}: {error}") from None
    return found


def listed_pairs(path: Path, images: Path | None) -> "VerificationPairs":
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
