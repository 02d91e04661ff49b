"""The command `photos`, which makes a store of aligned faces from photographs."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.bars import watch
from distill.cli.common import JsonOption
from distill.cli.reports import print_report
from distill.cli.screen import note

if TYPE_CHECKING:
    from curation.photographs.collect import Collected

DetectorOption = Annotated[
    Path,
    typer.Option(
        help="An .onnx file that finds faces: YuNet (OpenCV Zoo) or SCRFD (insightface).",
        show_default=False,
    ),
]


class WhichFaces(StrEnum):
    """Which faces of a photograph are kept."""

    LARGEST = "largest"
    ALL = "all"
    CENTRAL = "central"


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    app.command()(photos)


def photos(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="The folder of the photographs, or PERSON/*.jpg.",
            show_default=False,
        ),
    ],
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DEST",
            help="The store to make. Jobs find workspace/datasets/SET/NAME.lmdb as SET/NAME.",
            show_default=False,
        ),
    ],
    detector: DetectorOption,
    faces: Annotated[
        WhichFaces, typer.Option(help="Which faces to keep if a photograph has several.")
    ] = WhichFaces.LARGEST,
    unlabelled: Annotated[
        bool,
        typer.Option("--unlabelled", help="Folders are not people: leave all faces unlabelled."),
    ] = False,
    score: Annotated[
        float | None,
        typer.Option(help="The lowest detector score.", show_default="0.6 (YuNet), 0.5 (SCRFD)"),
    ] = None,
    min_size: Annotated[
        int,
        typer.Option(
            help="The smallest face, in pixels of the photograph across the aligned face."
        ),
    ] = 56,
    max_turn: Annotated[
        float, typer.Option(help="The largest yaw or pitch of a face, in degrees.")
    ] = 60.0,
    min_sharpness: Annotated[
        float,
        typer.Option(help="The lowest variance of the Laplacian, as in `curate view quality`."),
    ] = 12.0,
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 95,
    as_json: JsonOption = False,
) -> None:
    """Find the faces in photographs, align them to 112x112, and make a store of them.

    Each folder of photographs is a person; photographs in DIR itself have no label.
    Faces that are too small, turned or blurred are set aside. NAME.faces.tsv next to the store has
    a line for each face, with the reason; NAME.faces.jpg shows them. If it is stopped, run the same
    command to continue.

    **Examples**

    `curate photos family/ workspace/datasets/mine/family.lmdb --detector yunet.onnx`

    `curate photos street/ street.lmdb --detector yunet.onnx --faces all --min-size 80`
    """
    from pydantic import ValidationError

    from curation.errors import UserError
    from curation.faults import requirement
    from curation.photographs.collect import collect_faces
    from curation.photographs.faces import FaceSettings
    from teachers.photographs import FaceCutter

    try:
        settings = FaceSettings(
            faces=faces.value,
            score=score,
            least_size=min_size,
            most_turn=max_turn,
            least_sharpness=min_sharpness,
            quality=quality,
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = _OPTIONS.get(str(first["loc"][0]), str(first["loc"][0]))
        raise UserError(f"{option} {first['input']}: {requirement(first)}") from None
    with FaceCutter(detector, settings) as cutter, watch("cut", "photographs", False) as progress:
        collected = collect_faces(source, destination, cutter, unlabelled, progress)
    if collected.was_complete:
        note(
            f"{destination} is already complete and was made from these photographs; nothing to do"
        )
    print_report(_report(collected), as_json)


_OPTIONS = {"least_size": "--min-size", "most_turn": "--max-turn", "score": "--score",
            "least_sharpness": "--min-sharpness", "quality": "--quality"}  # fmt: skip


def _report(collected: "Collected") -> dict[str, object]:
    store, fates = collected.store, collected.fates
    aside = {fate: count for fate, count in sorted(fates.items()) if fate != "kept"}
    return {
        "path": str(store.path),
        "table": str(collected.table),
        "sheet": str(collected.sheet),
        "photographs": collected.photographs,
        "images": len(store),
        "identities": store.identities,
        "unlabelled": store.unlabelled,
        "set_aside": aside,
    }
