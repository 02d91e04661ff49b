"""`distill embed`, and what all commands for bundles share."""

import os
from collections.abc import Callable
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.printable import argument
from curation.wording import counted
from distill.cli import completion
from distill.cli.common import NETWORKS, JsonOption, print_json
from distill.cli.reports import print_table
from distill.cli.screen import note, say

if TYPE_CHECKING:
    import numpy as np

    from distill.export.decision import MatchThreshold
    from distill.export.embedder import BundleEmbedder

MOST_COMPARED = 200
"""Maximum images whose pairs are listed: 19,900 pairs. Those of 10,000 images take gigabytes."""

BundleArgument = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE",
        help="A bundle's folder.",
        show_default=False,
        autocompletion=completion.bundles,
    ),
]


PublicKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="Also check the signature with this public ed25519 key (PEM).",
        show_default=False,
    ),
]


def is_of_job(bundle: Path) -> bool:
    """Whether the bundle is the output of a job's step, which must not change."""
    return (bundle.resolve().parent / "inputs.json").is_file()


def write_changed(
    bundle: Path, destination: Path, change: Callable[[Path], None], force: bool = True
) -> None:
    """Write a changed copy of a bundle, possibly in its place, and warn that it is unsigned.

    ``change`` is called with the folder of the copy. Raises the errors of `deliver`.
    """
    from distill.daemon.delivery import deliver
    from distill.export.signatures import read_signature

    was_signed = read_signature(bundle) is not None
    deliver(bundle, destination, force, change)
    if was_signed:
        note(
            f"{destination} has no signature: that of {bundle} does not fit the changed files; "
            f"sign it with `distill sign {argument(destination)} --key sign.pem`"
        )


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=NETWORKS)(embed)


def embed(
    bundle: BundleArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Aligned faces; with --detector, photographs.",
            show_default=False,
        ),
    ],
    far: Annotated[
        str | None,
        typer.Option(
            help="Use the bundle's threshold for this false accept rate, such as 1e-3.",
            show_default="1e-3 or 1e-2",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the embeddings to this .npy file, as [B, D].")
    ] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="Treat images of any size as aligned faces.")
    ] = False,
    detector: Annotated[
        Path | None,
        typer.Option(
            help="An .onnx file that finds the faces of photographs: YuNet or SCRFD.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Embed faces with a bundle and decide which show the same person.

    Images are faces aligned to the ArcFace template, in the size that the network was trained on
    (usually 112x112). The embedding of a whole photograph says nothing about the person, so other
    sizes are refused, unless --aligned declares them to be aligned faces. With --detector, images
    are photographs; each face is found, aligned and embedded: photo.jpg/1 is the largest of
    several faces in photo.jpg.

    Examples: distill embed workspace/bundles/sample one.jpg other.jpg

    distill embed workspace/bundles/sample party.jpg me.jpg --detector yunet.onnx
    """
    from distill.export.decision import choose_decision
    from distill.export.embedder import BundleEmbedder

    if output is not None:
        _check_output(output)
    embedder = BundleEmbedder(bundle)
    decision = choose_decision(embedder.thresholds, far)
    names = [str(path) for path in images]
    _check_are_files(images)
    if detector is None:
        _check_images(embedder, images, aligned)
        features = embedder.embed(images, aligned)
    else:
        names, faces = _cut_faces(images, detector)
        features = embedder.embed(faces, aligned=True)
    if output is not None:
        _write_features(output, features)
    pairs = _pairs(names, features, decision)
    if json:
        threshold = None if decision is None else asdict(decision)
        vectors = features.tolist()
        print_json({"images": names, "embeddings": vectors, "threshold": threshold, "pairs": pairs})
    else:
        _print_pairs(pairs, decision, features.shape)


def _pairs(
    names: list[str], features: "np.ndarray", decision: "MatchThreshold | None"
) -> list[dict[str, Any]]:
    """Every pair of images once, with its cosine and decision (None without a threshold)."""
    if len(names) > MOST_COMPARED:
        note(f"{len(names)} images: pairs are shown for at most {MOST_COMPARED} images")
        return []
    cosines = features @ features.T
    return [
        {
            "left": names[i],
            "right": names[j],
            "cosine": float(cosines[i, j]),
            "same": None if decision is None else bool(cosines[i, j] > decision.cosine),
        }
        for i, j in combinations(range(len(names)), 2)
    ]


def _print_pairs(
    pairs: list[dict[str, Any]], decision: "MatchThreshold | None", shape: tuple[int, ...]
) -> None:
    note(f"{counted(shape[0], 'image')} embedded, {shape[1]} dimensions")
    if pairs:
        below = len(_common_folder([pair[side] for pair in pairs for side in ("left", "right")]))
        rows = [
            (
                pair["left"][below:],
                pair["right"][below:],
                f"{pair['cosine']:.4f}",
                {None: "-", True: "yes", False: "no"}[pair["same"]],
            )
            for pair in pairs
        ]
        print_table(["image", "image", "cosine", "same person"], rows, numbers=["cosine"])
    if decision is None:
        note(
            "no decisions: no threshold of the bundle keeps the false accept rate at 0.1 or lower "
            "(its evaluation.json has the measured rates)"
        )
    else:
        say(str(decision))


def _common_folder(names: list[str]) -> str:
    """The common prefix of all names, up to a slash; tables omit it."""
    prefix = os.path.commonprefix(names)  # noqa: RUF071 - it is cut at its last slash
    return prefix[: prefix.rfind("/") + 1]


def _cut_faces(paths: list[Path], detector: Path) -> tuple[list[str], list[bytes]]:
    """Names and JPEG files of the faces in photographs; prints a note on rejected ones.

    Raises ``UserError`` if a photograph cannot be read, or no face is left.
    """
    from curation.errors import UserError
    from curation.photographs.faces import FaceSettings
    from teachers.photographs import FaceCutter

    names: list[str] = []
    files: list[bytes] = []
    with FaceCutter(detector, FaceSettings(faces="all", quality=100), min(len(paths), 2)) as cutter:
        for path, photograph in zip(paths, cutter.cut(paths), strict=True):
            if photograph.reason is not None:
                raise UserError(f"{path}: {photograph.reason}")
            if not photograph.faces:
                note(f"{path}: no face was found")
            several = len(photograph.faces) > 1
            for number, (face, jpeg) in enumerate(photograph.faces, 1):
                name = f"{path}/{number}" if several else str(path)
                if face.fate == "kept":
                    names.append(name)
                    files.append(jpeg)
                else:
                    note(f"{name}: rejected, {face.fate} ({face.note})")
    if not files:
        raise UserError("no face to embed; use photographs with a larger and sharper face")
    return names, files


def _check_are_files(paths: list[Path]) -> None:
    from curation.errors import UserError

    for path in paths:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give its images: {argument(path)}/*.jpg")
        if not path.exists() and set("*?[") & set(str(path)):
            raise UserError(
                f"no file matches {path}; give images that exist: `ls {argument(path.parent)}` "
                "shows what is there"
            )


def _check_images(embedder: "BundleEmbedder", paths: list[Path], aligned: bool) -> None:
    """Check the size of every image before embedding the first."""
    from curation.files import read_whole
    from curation.images import MAX_FILE_BYTES, probe_size

    for path in paths:
        size = probe_size(read_whole(path, MAX_FILE_BYTES), str(path))
        embedder.check_size(size, str(path), aligned)


def _check_output(output: Path) -> None:
    """Refuse names of other files, such as an image when the name after --output was forgotten."""
    from curation.errors import UserError
    from curation.files import check_writable

    if output.suffix.lower() != ".npy":
        raise UserError(f"--output {output}: the embeddings are a .npy file; give it such a name")
    check_writable(output)


def _write_features(output: Path, features: "np.ndarray") -> None:
    from curation.arrays import write_array
    from curation.files import atomic_file

    with atomic_file(output) as file:
        write_array(file, features)
