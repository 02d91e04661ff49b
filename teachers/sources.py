"""What a teacher's file can be, told by its name, and how its makers prepare pixels."""

ONNX_SUFFIX = ".onnx"
WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")

# Beginning of the backbone's name, whose networks these are, colour, mean, std. The sources are
# the programs that trained them: insightface's arcface_torch, AdaFace's and CVLface's inference,
# and TreB1eN's InsightFace_Pytorch, which writes and reads its pictures with the colours swapped.
USUAL = (
    ("iresnet", "insightface's torch networks", "RGB", 127.5, 127.5),
    ("adaface", "AdaFace and CVLface", "BGR", 127.5, 127.5),
    ("treb1en", "TreB1eN's networks", "BGR", 127.5, 127.5),
)
USUAL_ONNX = (
    "mean and std 127.5 is insightface's usual way (std 128 where the network comes from MXNet), "
    "mean 0 and std 1 where the graph does it itself"
)


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights alone, without the network they belong to."""
    return name.endswith(WEIGHT_SUFFIXES)


def is_onnx(name: str) -> bool:
    return name.endswith(ONNX_SUFFIX)


def usual_preprocessing(name: str, backbone: str | None) -> str:
    """What a message about a file without preprocessing offers; nothing is taken unsaid."""
    if is_onnx(name):
        return USUAL_ONNX
    known = [row for row in USUAL if (backbone or "").startswith(row[0])] or USUAL
    return "; ".join(
        f"{makers} take {colour}, mean {mean}, std {std}" for _, makers, colour, mean, std in known
    )
