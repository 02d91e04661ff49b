"""Detectors from ONNX files with the known interfaces."""

import os
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from standin_detector import (
    CELL,
    drawn_face,
    picture_with,
    standin_detector,
    standin_scrfd,
    write_embedder,
)

from curation.alignment import ARCFACE_POINTS, align
from curation.errors import UserError
from teachers.detectors.decoding import (
    Faces,
    decode_scrfd,
    decode_yunet,
    join,
    without_overlaps,
)
from teachers.detectors.detector import Detector

TEMPLATE = np.array(ARCFACE_POINTS)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin_detector(tmp_path_factory.mktemp("detector") / "standin.onnx")


def test_faces_are_found_with_their_points(file: Path) -> None:
    places = [((2, 2), 128), ((12, 3), 300), ((24, 15), 60)]
    picture = picture_with([(drawn_face(i), *place) for i, place in enumerate(places)])
    found = Detector(file).find(picture, 0.6)
    assert len(found) == 3
    for (cell, side), box, points in zip(places, found.boxes, found.points, strict=True):
        corner = np.array(cell) * CELL
        assert np.allclose(box, [*corner, side, side], atol=1.5)
        assert np.allclose(points, corner + TEMPLATE * side / 112, atol=1.5)
    first = align(picture, found.points[0]).astype(int)
    assert np.abs(first - drawn_face(0)).mean() < 4


def test_a_file_of_a_fixed_size_that_takes_others_is_run_at_any(tmp_path: Path) -> None:
    fixed = Detector(standin_detector(tmp_path / "fixed.onnx", (640, 640)))
    picture = picture_with([(drawn_face(1), (20, 2), 150)], (416, 864))
    assert np.allclose(fixed.find(picture, 0.6).boxes, [[640, 64, 150, 150]], atol=1.5)


def test_a_file_that_takes_one_size_is_fed_that(tmp_path: Path) -> None:
    path = standin_detector(tmp_path / "one-size.onnx", (320, 320))
    model = onnx.load(path)
    for weight in model.graph.initializer:
        if weight.name == "column":  # shapes that an exporter has folded into constants
            weight.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 100, 1], np.int64), "column"))
    shapes = [
        onnx.numpy_helper.from_array(np.array([1, (320 // s) ** 2, 1], np.int64), f"column{s}")
        for s in (8, 16, 32)
    ]
    model.graph.initializer.extend(shapes)
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.output[0].startswith("row"):
            node.input[1] = f"column{node.output[0][3:]}"
    onnx.save(model, str(path))
    picture = picture_with([(drawn_face(1), (4, 4), 150)], (320, 640))
    tall = cv2.copyMakeBorder(picture, 0, 320, 0, 0, cv2.BORDER_CONSTANT)  # 640 x 640
    found = Detector(path).find(cv2.resize(tall, (320, 320), interpolation=cv2.INTER_NEAREST), 0.2)
    assert Detector(path).find(tall, 0.2).boxes == pytest.approx(2 * found.boxes, abs=6)


def test_nothing_is_found_in_empty_images(file: Path) -> None:
    for size in [(1, 1), (7, 2000), (300, 20)]:
        assert len(Detector(file).find(np.zeros((*size, 3), np.uint8), 0.6)) == 0


def test_other_networks_are_refused(tmp_path: Path) -> None:
    write_embedder(tmp_path / "embedder.onnx")
    with pytest.raises(
        UserError, match=r"embedder.onnx: its 1 outputs \(fc1\) are not those of a known face"
    ):
        Detector(tmp_path / "embedder.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(UserError, match=r"text.onnx: a text file, not an ONNX file"):
        Detector(tmp_path / "text.onnx")


def test_scrfd_maps_are_read_cell_by_cell() -> None:
    """Compared with insightface's formulas, written as loops; two anchors per cell."""
    random = np.random.default_rng(1)
    size, stride, anchors = (64, 96), 16, 2
    count = 4 * 6 * anchors
    maps = {
        "cls": random.random((count, 1), np.float32),
        "bbox": random.random((count, 4), np.float32) * 3,
        "kps": random.normal(0, 1, (count, 10)).astype(np.float32),
    }
    found = decode_scrfd(maps, stride, size, 0.7)
    expected = []
    for i in np.flatnonzero(maps["cls"][:, 0] >= 0.7):
        x, y = (i // anchors) % 6 * stride, (i // anchors) // 6 * stride
        left, top, right, bottom = maps["bbox"][i] * stride
        points = [(x + dx * stride, y + dy * stride) for dx, dy in maps["kps"][i].reshape(5, 2)]
        expected.append(([x - left, y - top, left + right, top + bottom], points))
    assert len(found) == len(expected) > 5
    assert np.allclose(found.boxes, [box for box, _ in expected], atol=1e-3)
    assert np.allclose(found.points, [points for _, points in expected], atol=1e-3)


@pytest.mark.parametrize("size", [("height", "width"), (640, 640)], ids=["free", "fixed"])
def test_a_file_of_scrfd_finds_the_same_faces(file: Path, tmp_path: Path, size: tuple) -> None:
    """Nine outputs without meaningful names, two anchors per cell, RGB between -1 and 1."""
    scrfd = Detector(standin_scrfd(tmp_path / "det_500m.onnx", size))
    assert scrfd.kind == "scrfd"
    picture = picture_with([(drawn_face(1), (2, 2), 128), (drawn_face(2), (12, 3), 300)])
    found, wanted = scrfd.find(picture, 0.5), Detector(file).find(picture, 0.5)
    assert len(found) == len(wanted) == 2
    assert np.allclose(found.boxes, wanted.boxes, atol=0.1)
    assert np.allclose(found.points, wanted.points, atol=0.1)
    for i in range(2):
        refined = [
            one.refine(picture, wanted.boxes[i], wanted.points[i])
            for one in (scrfd, Detector(file))
        ]
        assert np.allclose(*refined, atol=0.1)


def test_hostile_maps_give_no_faces_that_are_not_finite() -> None:
    maps = {name: np.full((4, width), 1e30, np.float32) for name, width in
            [("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)]}  # fmt: skip
    maps["kps"][0] = np.nan
    found = join([decode_yunet(maps, 32, (64, 64), 0.5)])
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.points).all()


def test_of_boxes_that_share_most_the_best_stays() -> None:
    boxes = np.array([[0, 0, 100, 100], [10, 10, 30, 30], [0, 5, 100, 100], [90, 0, 100, 100]])
    found = Faces(boxes.astype(np.float32), np.zeros((4, 5, 2)), np.array([0.9, 0.8, 0.7, 0.6]))
    assert without_overlaps(found, 0.55).scores.tolist() == [0.9, 0.6]


@pytest.fixture
def real() -> Path:
    folder = os.environ.get("FACE_DISTILL_REAL_DATA")
    path = Path(folder or "") / "detector/yunet.onnx"
    if folder is None or not path.exists():
        pytest.skip("FACE_DISTILL_REAL_DATA does not name a folder with a real detector")
    return path


def test_yunet_finds_what_opencv_finds_with_it(real: Path) -> None:
    photos = sorted((real.parents[1] / "photos").rglob("*.jpg"))
    assert photos
    for path in photos:
        picture = cv2.imread(str(path))
        if max(picture.shape) > 1024:
            continue
        theirs = cv2.FaceDetectorYN.create(str(real), "", picture.shape[1::-1], 0.6, 0.3, 5000)
        wanted = theirs.detect(picture)[1]
        detector = Detector(real)
        found = detector._find_at(picture[..., ::-1], 1.0, 0.6)
        for row in wanted:
            nearest = np.abs(found.boxes - row[:4]).sum(axis=1).argmin()
            assert np.allclose(found.boxes[nearest], row[:4], atol=0.01)
            assert np.allclose(found.points[nearest].ravel(), row[4:14], atol=0.01)


def test_yunet_finds_drawn_faces(real: Path) -> None:
    picture = picture_with([(drawn_face(1), (2, 2), 128), (drawn_face(2), (12, 3), 300)])
    found = Detector(real).find(picture, 0.6)
    for face, corner, side in [(0, (384, 96), 300), (1, (64, 64), 128)]:
        shift = np.abs((found.points[face] - corner) * 112 / side - TEMPLATE)
        assert shift.max() < 8
