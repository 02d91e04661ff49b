"""What a teacher's file can be, told by its name, and how its makers prepare pixels."""

from collections.abc import Mapping

ONNX_SUFFIX = ".onnx"
WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")

# Beginning of the backbone's name, whose networks these are, colour, mean, std. The sources are
# the programs that trained them: insightface's arcface_torch, AdaFace's inference, CVLface's
# configurations (v1_ir18.yaml and v1_ir101.yaml: color_space RGB; the layers are AdaFace's), and
# TreB1eN's InsightFace_Pytorch, which writes and reads its pictures with the colours swapped.
USUAL = (
    ("iresnet", "insightface's torch networks", "RGB", 127.5, 127.5),
    ("adaface", "AdaFace's networks", "BGR", 127.5, 127.5),
    ("adaface", "CVLface's networks with the same layers", "RGB", 127.5, 127.5),
    ("treb1en", "TreB1eN's networks", "BGR", 127.5, 127.5),
)
USUAL_ONNX = (
    "RGB, mean 127.5, std 127.5 is insightface's usual way (std 128 where the network comes from "
    "MXNet), mean 0, std 1 where the graph does it itself"
)
UNSAID = ("colour", "mean", "std")
"""What has no default: with any of them wrong, a network still answers, only worse."""


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights alone, without the network they belong to."""
    return name.endswith(WEIGHT_SUFFIXES)


def is_onnx(name: str) -> bool:
    return name.endswith(ONNX_SUFFIX)


def unsaid_preprocessing(
    said: Mapping[str, object], name: str, backbone: str | None, prefix: str = ""
) -> str | None:
    """What is missing of ``said`` about a teacher's file, and what its makers use; None if nothing.

    ``prefix`` stands before each key as the user writes it: "--" of options.
    """
    missing = [f"{prefix}{key}" for key in UNSAID if said.get(key) is None]
    if not missing:
        return None
    *most, last = missing
    lacks = f"{', '.join(most)} and {last} are" if most else f"{last} is"
    return (
        f"{lacks} missing; say how its pixels are to be, (pixel - mean) / std with pixels of "
        f"0 ... 255 in RGB or BGR: {_usual_preprocessing(name, backbone)}"
    )


def _usual_preprocessing(name: str, backbone: str | None) -> str:
    if is_onnx(name):
        return USUAL_ONNX
    known = [row for row in USUAL if (backbone or "").startswith(row[0])] or USUAL
    return "; ".join(
        f"{makers} take {colour}, mean {mean}, std {std}" for _, makers, colour, mean, std in known
    )
