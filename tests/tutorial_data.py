"""Small data in place of a tutorial reader's: drawn people and their teacher."""

import sys
from pathlib import Path

import numpy as np
import onnx

import teachers
from curation.images import encode_jpeg
from curation.pairs import write_pairs
from curation.records.layout_writer import write_layout
from tests.standin_detector import drawn_face, picture_with, standin_detector

PEOPLE, SHOTS = 20, 6
WRONG = 5
"""One in this many people has an image of somebody else"""
SIZE = (112, 112)


def teacher(path: str) -> None:
    """Write the network for drawn faces with the usual input size of face networks, 112x112."""
    model = onnx.load(str(Path(teachers.__file__).with_name("drawn_faces.onnx")))
    given = model.graph.input[0]
    batch, channels, height, width = (each.dim_value for each in given.type.tensor_type.shape.dim)
    scales = np.float32([1, 1, height / SIZE[0], width / SIZE[1]])
    model.graph.initializer.append(onnx.numpy_helper.from_array(scales, "scales"))
    large = onnx.helper.make_tensor_value_info(
        "image112", onnx.TensorProto.FLOAT, [batch or "batch", channels, *SIZE]
    )
    resize = onnx.helper.make_node(
        "Resize", ["image112", "", "scales"], [given.name], mode="linear"
    )
    model.graph.input.remove(given)
    model.graph.input.append(large)
    model.graph.node.insert(0, resize)
    onnx.save(model, path)


def pack(folder: str, network: str) -> None:
    """Write a training set in insightface's layout, and a verification set of other people."""
    faces = [
        (encode_jpeg(drawn_face(person + (not shot and not person % WRONG), shot)), person)
        for person in range(PEOPLE)
        for shot in range(SHOTS)
    ]
    write_layout(Path(folder), faces, SIZE)
    same = [index % 2 == 0 for index in range(40)]
    images = []
    for index, is_same in enumerate(same):
        person = PEOPLE + index % 8
        images.append(encode_jpeg(drawn_face(person, index)))
        images.append(encode_jpeg(drawn_face(person if is_same else person + 9, 40 + index)))
    write_pairs(Path(folder) / "lfw.bin", images, same)
    teacher(network)


def photographs(folder: str, detector: str, network: str) -> None:
    """Write a folder per person, and a detector that finds the people in the photographs."""
    for person in range(2 * PEOPLE):
        where = Path(folder) / f"person-{person:02}"
        where.mkdir(parents=True)
        for shot in range(SHOTS // 2):
            picture = picture_with([(drawn_face(person, shot), (3, 2), 160)])
            (where / f"{shot}.jpg").write_bytes(encode_jpeg(picture))
    standin_detector(Path(detector))
    teacher(network)


if __name__ == "__main__":
    {"pack": pack, "photographs": photographs}[sys.argv[1]](*sys.argv[2:])
