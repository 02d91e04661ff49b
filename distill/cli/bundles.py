"""The commands that look at bundles: `embed`, `verify`."""

import os
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from distill.cli.common import JsonOption, print_json
from distill.cli.reports import print_table
from distill.cli.screen import note, say

if TYPE_CHECKING:
    import numpy as np

    from distill.export.config import Thresholds

ALIGNED_SIZE = (112, 112)
PREFERRED_RATES = ("1e-3", "1e-2")

BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``distill``."""
    app.command()(embed)
    app.command()(verify)


def embed(
    bundle: BundleArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Aligned faces.", show_default=False)
    ],
    far: Annotated[
        str | None,
        typer.Option(
            help="Decide at this false-accept rate, as 1e-3.", show_default="1e-3 or 1e-2"
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the embeddings [B, D] here, as .npy.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Embed faces with a bundle and say which are of the same person.

    Images are faces aligned to the ArcFace template of 112x112 pixels; others are resized, which
    is noted, and refused where their aspect differs.

    Example: distill embed workspace/bundles/sample one.jpg other.jpg
    """
    from distill.export.embedder import BundleEmbedder

    embedder = BundleEmbedder(bundle)
    threshold = _choose_threshold(embedder.thresholds, far)
    for path in images:
        _note_size(path, embedder.config.face.preprocessing.size)
    features = embedder.embed(images)
    if output is not None:
        _write_features(output, features)
    names = [str(path) for path in images]
    pairs = _pairs(names, embedder.similarity(features, features), threshold)
    if json:
        vectors = features.tolist()
        print_json({"images": names, "embeddings": vectors, "threshold": threshold, "pairs": pairs})
    else:
        _print_pairs(pairs, threshold, features.shape)


def verify(bundle: BundleArgument, json: JsonOption = False) -> None:
    """Check a bundle: its checksums, and its golden embeddings in every runtime.

    Example: distill verify workspace/bundles/sample
    """
    from distill.export.embedder import RUNTIMES, BundleEmbedder

    cosines = {runtime: BundleEmbedder(bundle, runtime).check_golden() for runtime in RUNTIMES}
    if json:
        print_json({"bundle": str(bundle), "checksums": "ok", "golden_cosines": cosines})
        return
    say(f"{bundle}: all files are as they were written (checksums)")
    rows = [(runtime, f"{cosine:.7f}") for runtime, cosine in cosines.items()]
    print_table(["runtime", "lowest cosine with the golden embeddings"], rows)


def _pairs(
    names: list[str], cosines: "np.ndarray", threshold: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Every pair of images once, with its cosine and the decision (None without a threshold)."""
    return [
        {
            "left": names[i],
            "right": names[j],
            "cosine": float(cosines[i, j]),
            "same": None if threshold is None else bool(cosines[i, j] > threshold["cosine"]),
        }
        for i, j in combinations(range(len(names)), 2)
    ]


def _print_pairs(
    pairs: list[dict[str, Any]], threshold: dict[str, Any] | None, shape: tuple[int, ...]
) -> None:
    note(f"{shape[0]} images embedded, {shape[1]} dimensions")
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
    if threshold is None:
        note("the bundle has no threshold: its evaluation sets were too small")
    else:
        say(f"same person where cosine > {threshold['cosine']:.4f} ({threshold['kind']})")


def _common_folder(names: list[str]) -> str:
    """What all names begin with, up to a slash; a table is clearer without it."""
    prefix = os.path.commonprefix(names)  # noqa: RUF071 - it is cut at its last slash
    return prefix[: prefix.rfind("/") + 1]


def _choose_threshold(thresholds: "Thresholds", far: str | None) -> dict[str, Any] | None:
    """The cosine of the FAR asked for, else of 1e-3, 1e-2 or the best accuracy; None if none is."""
    rates = thresholds.false_accept_rates
    measured = {name: rate for name, rate in rates.items() if rate is not None}
    if far is not None and far not in measured:
        raise UserError(
            f"--far {far}: this bundle has no threshold for it; there are "
            f"{', '.join(measured) or 'none, as its evaluation sets were too small'}"
        )
    for name in (far,) if far else PREFERRED_RATES:
        if name in measured:
            found = measured[name]
            kind = f"FAR {name}, TAR {found.tar:.4f}, measured on {found.set}"
            return {"cosine": found.threshold, "kind": kind}
    best = thresholds.best_accuracy
    if best is None:
        return None
    return {"cosine": best.threshold, "kind": f"best ten-fold accuracy on {best.set}"}


def _note_size(path: Path, input_size: tuple[int, int]) -> None:
    """Say on stderr where an image has a size that aligned faces do not have."""
    from curation.images import probe_size

    if not path.is_file():
        raise UserError(f"{path}: no such image file")
    height, width = probe_size(path.read_bytes(), str(path))
    if (height, width) not in (ALIGNED_SIZE, input_size):
        note(
            f"note: {path} has {height}x{width} pixels, not 112x112: it is resized, and taken for "
            "a face that is aligned already"
        )


def _write_features(output: Path, features: "np.ndarray") -> None:
    import numpy as np

    from curation.files import atomic_file

    with atomic_file(output) as file:
        np.save(file, features, allow_pickle=False)
