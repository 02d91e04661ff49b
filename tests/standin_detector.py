"""A face detector without weights, with YuNet's interface, and photographs with detectable faces.

A marker, a red block of 32x32 pixels aligned to the stride, is to the upper left of each face. Its
blue value encodes the size of the face.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from curation.alignment import ALIGNED_SIZE, ARCFACE_POINTS
from curation.sample.studio import Studio

CELL = 32
_LARGEST = 16.0
"""Size in cells of a face whose marker has the maximum blue value"""


def write_embedder(path: Path) -> None:
    """Write a network with an embedder's interface, which is not a detector."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["data"], ["fc1"])],
        "embedder",
        [value("data", TensorProto.FLOAT, [1, 3, 112, 112])],
        [value("fc1", TensorProto.FLOAT, None)],
    )
    onnx.save(helper.make_model(graph), str(path))


def standin_detector(path: Path, size: Sequence[int | str] = ("height", "width")) -> Path:
    """Write the detector; ``size`` is its input size, fixed or dynamic."""
    nodes = [
        helper.make_node("Split", ["input"], ["b", "g", "r"], axis=1, num_outputs=3),
        helper.make_node("Sub", ["r", "g"], ["marked"]),
    ]
    weights = {
        "scale": np.float32(4 / 255),
        "most": np.float32(3),  # a cell partly covered by a marker is not a face
        "none": np.float32(0),
        "blueness": np.float32(_LARGEST / 255),
        "column": np.array([0, -1, 1], np.int64),
        "corner": np.float32([1, 1]),
        "half": np.float32(0.5),
        "points": (np.float32(ARCFACE_POINTS) / ALIGNED_SIZE[0]).reshape(1, 1, 10),
        "shift": np.full((1, 1, 10), 1, np.float32),
        "nothing4": np.zeros((1, 1, 4), np.float32),
        "nothing10": np.zeros((1, 1, 10), np.float32),
    }
    for stride in (8, 16, 32):
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", ["marked"], [f"m{stride}"], **pool),
            helper.make_node("Reshape", [f"m{stride}", "column"], [f"row{stride}"]),
            helper.make_node(
                "Mul", [f"row{stride}", "scale" if stride == CELL else "none"], [f"share{stride}"]
            ),
            helper.make_node("Sub", [f"share{stride}", "most"], [f"above{stride}"]),
            helper.make_node("Relu", [f"above{stride}"], [f"cls_{stride}"]),
            helper.make_node("Identity", [f"cls_{stride}"], [f"obj_{stride}"]),
        ]
        if stride != CELL:
            nodes += [
                helper.make_node("Add", [f"cls_{stride}", "nothing4"], [f"bbox_{stride}"]),
                helper.make_node("Add", [f"cls_{stride}", "nothing10"], [f"kps_{stride}"]),
            ]
            continue
        nodes += [
            helper.make_node("AveragePool", ["b"], ["blue"], **pool),
            helper.make_node("Reshape", ["blue", "column"], ["blues"]),
            helper.make_node("Mul", ["blues", "blueness"], ["side"]),  # in cells
            helper.make_node("Mul", ["side", "half"], ["middle"]),
            helper.make_node("Concat", ["middle", "middle"], ["middles"], axis=2),
            helper.make_node("Add", ["middles", "corner"], ["centre"]),
            helper.make_node("Log", ["side"], ["extent"]),
            helper.make_node("Concat", ["centre", "extent", "extent"], ["bbox_32"], axis=2),
            helper.make_node("Mul", ["side", "points"], ["inside"]),
            helper.make_node("Add", ["inside", "shift"], ["kps_32"]),
        ]
    names = [f"{kind}_{stride}" for stride in (8, 16, 32) for kind in ("cls", "obj", "bbox", "kps")]
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return path


def standin_scrfd(path: Path, size: Sequence[int | str] = ("height", "width")) -> Path:
    """Write the same detector with SCRFD's interface, as exported by insightface.

    Its input is RGB, (pixel - 127.5) / 128. Its nine outputs have two anchors per cell, the second
    of which is never a face: scores, then distances to the sides of the box, then points.
    """
    model = onnx.load(standin_detector(path, size))
    graph = model.graph
    graph.input[0].name = "input.1"
    graph.node.insert(0, helper.make_node("Mul", ["input.1", "range"], ["wide"]))
    graph.node.insert(1, helper.make_node("Add", ["wide", "grey"], ["rgb"]))
    graph.node.insert(2, helper.make_node("Gather", ["rgb", "swapped"], ["input"], axis=1))
    weights = {
        "range": np.float32(128),
        "grey": np.float32(127.5),
        "swapped": np.array([2, 1, 0], np.int64),
        "rows1": np.array([-1, 1], np.int64),
        "rows4": np.array([-1, 4], np.int64),
        "rows10": np.array([-1, 10], np.int64),
    }
    names = {kind: [f"{kind}{stride}" for stride in (8, 16, 32)] for kind in ("s", "b", "k")}
    for stride in (8, 16, 32):
        score, box = f"cls_{stride}", [f"{part}{stride}" for part in ("x", "y", "lw", "lh")]
        centre, log, extent, half, before, behind, sides = (
            f"{name}{stride}" for name in ("c", "log", "e", "h", "before", "behind", "sides")
        )
        graph.node.extend(
            [
                helper.make_node("Mul", [score, "none"], [f"no{stride}"]),
                helper.make_node("Concat", [score, f"no{stride}"], [f"ss{stride}"], axis=2),
                helper.make_node("Reshape", [f"ss{stride}", "rows1"], [f"s{stride}"]),
                helper.make_node("Split", [f"bbox_{stride}"], box, axis=2, num_outputs=4),
                helper.make_node("Concat", box[:2], [centre], axis=2),
                helper.make_node("Concat", box[2:], [log], axis=2),
                helper.make_node("Exp", [log], [extent]),
                helper.make_node("Mul", [extent, "half"], [half]),
                helper.make_node("Sub", [half, centre], [before]),
                helper.make_node("Add", [half, centre], [behind]),
                helper.make_node("Concat", [before, behind] * 2, [sides], axis=2),
                helper.make_node("Reshape", [sides, "rows4"], [f"b{stride}"]),
                helper.make_node("Concat", [f"kps_{stride}"] * 2, [f"kk{stride}"], axis=2),
                helper.make_node("Reshape", [f"kk{stride}", "rows10"], [f"k{stride}"]),
            ]
        )
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for kind in names.values()
        for name in kind
    )
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()
    )
    onnx.save(model, str(path))
    return path


def drawn_face(person: int, shot: int = 0) -> np.ndarray:
    """An aligned face like those of the sample, uint8 RGB ``[112, 112, 3]``."""
    from curation.images import decode

    studio = Studio(0)
    return decode(studio.face(person, studio.conditions(7, person, shot, yaw=0.0)))


def picture_with(
    faces: Sequence[tuple[np.ndarray, tuple[int, int], int]], size: tuple[int, int] = (640, 960)
) -> np.ndarray:
    """An image, uint8 RGB ``[*size, 3]``, with aligned faces at (column, row) in cells.

    Each face is scaled to the given side in pixels; its marker is one cell to the upper left.
    """
    picture = np.full((*size, 3), (90, 140, 90), np.uint8)
    for face, (column, row), side in faces:
        left, top = column * CELL, row * CELL
        # The template's pixel centres, scaled about the corner like the points.
        matrix = np.array([[side / 112, 0, left], [0, side / 112, top]])
        drawn = cv2.warpAffine(face, matrix, size[::-1], flags=cv2.INTER_LINEAR)
        inside = np.s_[top : top + side, left : left + side]
        picture[inside] = drawn[inside]
        blue = round(side / CELL * 255 / _LARGEST)
        picture[top - CELL : top, left - CELL : left] = (255, 0, blue)
    return picture
