"""The kinds of teacher files, recognised by name, and the usual preprocessing of their makers."""

import re
from collections.abc import Mapping
from pathlib import Path

from curation.errors import UserError
from teachers.preprocessing import REQUIRED

ONNX_SUFFIX = ".onnx"
WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".pth.tar")

# Prefix of the backbone's name, origin of the networks, colour, mean, std. The sources are the
# programs that trained them: insightface's arcface_torch, AdaFace's inference, CVLface's
# configurations (v1_ir18.yaml and v1_ir101.yaml: color_space RGB; the layers are AdaFace's), and
# TreB1eN's InsightFace_Pytorch, which reads and writes its images with swapped colours.
USUAL = (
    ("iresnet", "insightface's torch networks", "RGB", 127.5, 127.5),
    ("adaface", "AdaFace's networks", "BGR", 127.5, 127.5),
    ("adaface", "CVLface's networks with the same layers", "RGB", 127.5, 127.5),
    ("treb1en", "TreB1eN's networks", "BGR", 127.5, 127.5),
    ("facelivt", "FaceLiVT's networks", "RGB", 127.5, 127.5),
)
_CONFIGURATION_BYTES = 1 << 20
# A line of YAML or JSON; the untrusted file is not parsed.
_COLOUR = re.compile(
    r"""^[^#\n]*?\bcolor_space["']?\s*:\s*["']?(RGB|BGR)\b""", re.MULTILINE | re.IGNORECASE
)
USUAL_ONNX = (
    "insightface's networks usually take RGB, mean 127.5, std 127.5 (std 128 if converted from "
    "MXNet); a graph that normalises its input takes mean 0, std 1"
)


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights only, without the network."""
    return name.endswith(WEIGHT_SUFFIXES)


def is_onnx(name: str) -> bool:
    return name.endswith(ONNX_SUFFIX)


def weights_in(folder: Path) -> list[Path]:
    """The weights files in a folder, including CVLface's subfolder; empty without a folder."""
    places = (folder, folder / "pretrained_model")
    files = [each for place in places if place.is_dir() for each in sorted(place.iterdir())]
    return [each for each in files if is_weights(each.name) and each.is_file()]


def check_colour(path: Path, colour: str) -> None:
    """Raise ``UserError`` if a configuration next to the weights states the other colour order.

    CVLface's files have ``color_space``. The configuration has the weights' own name, or any name
    if the weights are the only ones in their folder.
    """
    for file in _configurations(path):
        with file.open("rb") as opened:
            text = opened.read(_CONFIGURATION_BYTES).decode(errors="replace")
        stated = {found.upper() for found in _COLOUR.findall(text)}
        if stated and colour not in stated:
            (other,) = stated
            where = "in" if path.is_dir() else "beside"
            raise UserError(
                f"{path}: {file.name} {where} it says color_space {other}, and colour is {colour}; "
                f"give {other}, or remove {file.name} if it belongs to other weights"
            )


def _configurations(path: Path) -> list[Path]:
    weights = weights_in(path) if path.is_dir() else [path]
    folder = path if path.is_dir() else path.parent
    places = {folder, *(each.parent for each in weights)}
    alone = path.is_dir() or len(weights_in(folder)) <= 1
    files = [each for place in sorted(places) for each in sorted(place.iterdir())]
    return [
        each
        for each in files
        if each.suffix in (".yaml", ".yml", ".json")
        and each.is_file()
        and (alone or each.stem in {file.stem for file in weights})
    ]


def missing_preprocessing(
    given: Mapping[str, object], name: str, backbone: str | None, prefix: str = ""
) -> str | None:
    """What ``given`` lacks about a teacher's file, and what its makers use; None if nothing.

    ``prefix`` precedes each key as the user writes it, such as "--" for options.
    """
    missing = [f"{prefix}{key}" for key in REQUIRED if given.get(key) is None]
    if not missing:
        return None
    *most, last = missing
    lacks = f"{', '.join(most)} and {last} are" if most else f"{last} is"
    return (
        f"{lacks} missing; give the network's preprocessing, (pixel - mean) / std of pixels 0 ... "
        f"255 in RGB or BGR: {_usual_preprocessing(name, backbone)}"
    )


def _usual_preprocessing(name: str, backbone: str | None) -> str:
    if is_onnx(name):
        return USUAL_ONNX
    known = [row for row in USUAL if (backbone or "").startswith(row[0])] or USUAL
    return "; ".join(
        f"{makers} take {colour}, mean {mean}, std {std}" for _, makers, colour, mean, std in known
    )
