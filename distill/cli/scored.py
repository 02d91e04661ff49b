"""Opens the models and sets named on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.model_options import ModelFileOptions

if TYPE_CHECKING:
    from curation.image_set import ImageSet
    from curation.pairs import VerificationPairs
    from curation.workspace import Workspace
    from distill.evaluation.protocols.protocol import TemplateWeights
    from distill.evaluation.set_features import EvaluationSet, SetFeatures
    from distill.evaluation.set_source import SetSource
    from distill.evaluation.slice_tables import Attribute

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
        help="A .bin of pairs; a list of pairs (.txt, .csv, .tsv) of files or, as LIST:SET, of the "
        "images of a store or view; or a store or view, all of whose images are compared with "
        "each other. By path "
        "or workspace name. Published protocols: NAME:FOLDER (ijbb, ijbc, tinyface, lfr, "
        "megaface).",
        show_default=False,
        autocompletion=completion.image_sets,
    ),
]
_ARRAYS = (".npy", ".npz", ".csv", ".tsv", ".txt", ".pkl")
"""Endings of files that may hold embeddings, but never a network"""
_WEIGHTS = ("norm+detector", "norm", "detector", "none")
TemplateWeightsOption = Annotated[
    str,
    typer.Option(
        help=f"How the images of an IJB template are weighted: {', '.join(_WEIGHTS)} (the "
        "embedding's norm, the detector's score).",
    ),
]


QUALITY = "quality"
SlicesOption = Annotated[
    str | None,
    typer.Option(
        help="Also report every measure by group, across groups and by tenths of quality. The "
        "groups come from a table (.csv, .tsv) whose first row is like identity,sex,age or "
        f"image,pose; {QUALITY!r} "
        "gives the tenths of quality alone.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class SetOptions:
    """The options of a set besides its name; see `option_groups.grouped`."""

    images: Annotated[
        Path | None,
        typer.Option(help="The folder that the paths of a list of pairs are relative to."),
    ] = None
    detector: Annotated[
        Path | None,
        typer.Option(
            help="An .onnx file (YuNet or SCRFD) that aligns a SET that is a folder of "
            "photographs, PERSON/*.jpg.",
            show_default=False,
        ),
    ] = None


def open_model(name: str, file: ModelFileOptions, place: "Workspace") -> "SetFeatures":
    """The features of a model of any kind; ``UserError`` if there is no such model."""
    from distill.cli.curate.set_embedder import open_embedder
    from distill.evaluation.given_features import GivenFeatures
    from distill.evaluation.set_features import FEATURES, NetworkFeatures

    folder = Path(name)
    if _has_embeddings(folder):
        return GivenFeatures(folder)
    _check_no_arrays(folder, place)
    network = open_embedder(file.choice(name), place).teacher
    return NetworkFeatures(network, place.cache / FEATURES)


def short_names(models: list[str]) -> list[str]:
    """The last component of each path, if these are unique."""
    short = [Path(name).name or name for name in models]
    return short if len(set(short)) == len(short) else models


def _has_embeddings(folder: Path) -> bool:
    """Whether it holds embeddings made elsewhere, as .npy or in a protocol's format."""
    if not folder.is_dir() or (folder / "config.json").exists():
        return False
    forms = (folder / "lfr.bin", folder / "facescrub")
    return any(folder.glob("*.npy")) or any(form.exists() for form in forms)


def _check_no_arrays(path: Path, place: "Workspace") -> None:
    """Raise ``UserError`` for embeddings in a form that is not read, which are no network."""
    from curation.errors import UserError

    is_folder = path.is_dir() and not (path / "config.json").exists()
    names = sorted(each.name for each in path.iterdir()) if is_folder else [path.name]
    found = [name for name in names if name.lower().endswith(_ARRAYS)]
    if not found or not path.exists() or (place.runs / path.name).exists():
        return
    what = f"{path}/{found[0]}" if is_folder else str(path)
    raise UserError(
        f"{what} is not a network; embeddings are read from a folder with SET.npy for each set, "
        "[N, D], one row per image, as written by np.save(FILE, embeddings.astype(np.float32)): "
        "give that folder"
    )


def template_weights_of(given: str) -> "TemplateWeights":
    """The value of `TemplateWeightsOption`."""
    from curation.errors import UserError
    from distill.evaluation.protocols.protocol import TemplateWeights

    if given not in _WEIGHTS:
        raise UserError(f"--template-weights {given}: allowed: {', '.join(_WEIGHTS)}")
    return TemplateWeights("norm" in given, "detector" in given)


def open_set(
    name: str,
    place: "Workspace",
    options: SetOptions = SetOptions(),
    weights: "TemplateWeights | None" = None,
) -> "EvaluationSet":
    """A set by path or name in the workspace, or a protocol by NAME:FOLDER.

    Raises ``UserError`` if the set yields no score.
    """
    from distill.evaluation.protocols.protocol import TemplateWeights, open_protocol, split_name

    if (named := split_name(name)) is not None and not Path(name).exists():
        return open_protocol(*named, weights or TemplateWeights())
    return open_faces(name, place, options)


def slices_of(given: str, sets: "list[EvaluationSet]") -> "dict[str, list[Attribute]]":
    """The attributes from `SlicesOption`, by set name."""
    from curation.errors import UserError
    from distill.evaluation.protocols.protocol import ProtocolSet
    from distill.evaluation.slice_tables import read_slices

    for each in sets:
        if isinstance(each, ProtocolSet):
            raise UserError(f"--slices: {each.name} is a protocol; give sets of pairs or images")
    if given == QUALITY:
        return {}
    if len(sets) > 1:
        raise UserError(
            f"--slices {given}: a table describes one set, and {len(sets)} are given; give one"
        )
    (only,) = sets
    assert not isinstance(only, ProtocolSet)
    return {only.name: read_slices(Path(given), only)}


def _cut_photographs(folder: Path, detector: Path, place: "Workspace") -> "ImageSet":
    """The largest face of each photograph, aligned; cached by photographs and detector."""
    import hashlib

    from curation.errors import UserError
    from curation.photographs.collect import collect_faces
    from curation.photographs.faces import FaceSettings
    from distill.evaluation.measurable import check_all_pairs
    from teachers.photographs import FaceCutter

    with FaceCutter(detector, FaceSettings()) as cutter, watch("cut", "photographs") as progress:
        known = hashlib.sha256(f"{folder.resolve()}\n{cutter.digest}\n".encode())
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            status = path.stat()
            line = f"{path.relative_to(folder)}|{status.st_size}|{status.st_mtime_ns}\n"
            known.update(line.encode(errors="surrogateescape"))
        kept = place.cache / "photographs" / known.hexdigest()[:16]
        kept.mkdir(parents=True, exist_ok=True)
        destination = kept / f"{folder.resolve().name}.lmdb"
        collected = collect_faces(folder, destination, cutter, progress=progress)
    try:
        check_all_pairs(collected.store)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    return collected.store


def open_faces(
    name: str, place: "Workspace", options: SetOptions
) -> "VerificationPairs | ImageSet":
    """Pairs, images or photographs by path or name; ``UserError`` if they yield no score."""
    from curation.errors import UserError
    from curation.pairs import VerificationPairs
    from distill.evaluation.measurable import check_all_pairs, check_measurable
    from distill.evaluation.protocols.protocol import split_name

    if split_name(name) is not None and not Path(name).exists():
        raise UserError(
            f"{name} is a protocol, which `distill evaluate` and `distill report` take; give a set "
            "of pairs or images"
        )
    if options.detector is not None and Path(name).is_dir() and not Path(name).suffix:
        return _cut_photographs(Path(name), options.detector, place)
    source = _source(name, place, options.images)
    try:
        with watch("read", "pairs", at_once=False) as progress:
            found = source.open(progress)
        if isinstance(found, VerificationPairs):
            check_measurable(found)
        else:
            check_all_pairs(found)
    except UserError as error:
        raise error if str(source.path) in str(error) else UserError(f"{name}: {error}") from None
    return found


def _source(name: str, place: "Workspace", images: Path | None) -> "SetSource":
    from distill.cli.curate.places import locate, split_list
    from distill.evaluation.set_source import SetSource

    if (listed := split_list(name)) is None:
        return SetSource(locate(name, place))
    path, of = listed
    return SetSource(path, images if of is None else locate(of, place))


def shown_interval(interval: Sequence[float] | None) -> str:
    """Both ends of an interval as text."""
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
