"""Photographs and detectors that would harm the process that reads them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from standin_detector import drawn_face, picture_with, standin_detector, write_embedder

import teachers.photographs
from curation.errors import UserError
from curation.images import decode, encode_jpeg
from curation.photographs.faces import FaceSettings
from teachers.confined import ConfinedWorker
from teachers.embedder import embed_mirrored
from teachers.foreign import OnnxEmbedder
from teachers.photographs import FaceCutter
from teachers.preprocessing import Preprocessing


def test_one_bad_photograph_does_not_stop_the_others(tmp_path: Path) -> None:
    detector = standin_detector(tmp_path / "standin.onnx")
    good = tmp_path / "good.jpg"
    good.write_bytes(encode_jpeg(picture_with([(drawn_face(1), (2, 2), 128)], (320, 640))))
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    paths = [good, tmp_path / "bad.jpg", tmp_path / "none.jpg", Path("/dev/zero"), good]
    with FaceCutter(detector, FaceSettings(), processes=2) as cutter:
        found = list(cutter.cut(paths))
    assert [len(one.faces) for one in found] == [1, 0, 0, 0, 1]
    assert found[0] == found[4]
    assert "damaged" in str(found[1].reason)
    assert found[2].reason == "cannot read it: No such file or directory"
    assert found[3].reason == "it is a device, not a file"


@pytest.mark.parametrize("nodes", [2, 400])
def test_a_detector_that_takes_too_much_is_refused(tmp_path: Path, nodes: int) -> None:
    """Gigabytes of memory for any photograph."""
    path = standin_detector(tmp_path / "greedy.onnx")
    model = onnx.load(path)
    times = np.array([1, 1, 4000, 4000], np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(times, "times"))
    model.graph.node.insert(0, helper.make_node("Tile", ["input", "times"], ["large"]))
    model.graph.node[1].input[0] = "large"
    onnx.save(model, str(path))
    with pytest.raises(UserError, match=r"greedy.onnx: the detector does not run"):
        FaceCutter(path, FaceSettings(), processes=1)


def test_an_embedder_is_no_detector(tmp_path: Path) -> None:
    write_embedder(tmp_path / "embedder.onnx")
    with pytest.raises(UserError, match="not those of a known face detector"):
        FaceCutter(tmp_path / "embedder.onnx", FaceSettings(), processes=1)


def open_hostile(how: str) -> Any:
    """For ``ConfinedWorker``: answers the request "good", and ends at others."""
    import os
    import signal

    def answer(request: str) -> tuple[Any, bytes]:
        if request == "good":
            return os.getpid(), b"bytes"
        if how == "memory":
            return len(np.ones(1 << 32, np.uint8)), b""
        if how == "time":
            while True:
                pass
        if how == "crash":
            os.abort()
        if how == "nonsense":
            os.write(1, b"not JSON\n")
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("this one is bad")

    return answer, None


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("memory", MemoryError),
        ("time", TimeoutError),
        ("crash", ChildProcessError),
        ("nonsense", ChildProcessError),
        ("mistake", UserError),
    ],
)
def test_a_worker_that_came_to_an_end_is_followed_by_another(
    how: str, error: type[Exception]
) -> None:
    worker = ConfinedWorker("test_photographs:open_hostile", {"how": how}, 1 << 30, 1)
    try:
        first, payload = worker.ask({"request": "good"})
        assert payload == b"bytes"
        assert worker.ask({"request": "good"})[0] == first
        with pytest.raises(error):
            worker.ask({"request": "bad"})
        second = worker.ask({"request": "good"})[0]
        assert (second == first) == (how in ("memory", "mistake"))
    finally:
        worker.close()
    with pytest.raises(ChildProcessError, match="was ended"):
        worker.ask({"request": "good"})


FACE = {
    "fate": "small", "note": "", "box": [0, 0, 1, 1], "points": [0] * 10,
    "score": 1, "size": 1, "yaw": 0, "pitch": 0, "sharpness": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    "faces",
    [None, 3, [[1, 2]], [[{"fate": "kept"}, 3]], "x" * 100, [[FACE, 0]] * 1001],
    ids=["none", "number", "numbers", "part", "text", "many"],
)
def test_answers_that_are_no_faces_are_refused(faces: Any) -> None:
    with pytest.raises(ChildProcessError, match="not a list of faces"):
        teachers.photographs._faces(faces, b"")
    assert len(teachers.photographs._faces([[FACE, 0]] * 1000, b"")) == 1000


def test_faces_of_real_photographs_are_distinguished() -> None:
    folder = os.environ.get("FACE_DISTILL_REAL_DATA")
    root = Path(folder or "")
    if folder is None or not (root / "detector/yunet.onnx").exists():
        pytest.skip("FACE_DISTILL_REAL_DATA does not name a folder with photographs and a detector")
    paths = sorted((root / "photos/people").rglob("*.jpg"))
    with FaceCutter(root / "detector/yunet.onnx", FaceSettings(), processes=2) as cutter:
        files = [decode(photograph.faces[0].jpeg) for photograph in cutter.cut(paths)]
    preprocessing = Preprocessing(colour="RGB", mean=0, std=1, size=(112, 112))
    teacher = OnnxEmbedder(root / "teacher/sface.onnx", preprocessing)
    features = embed_mirrored(teacher, np.stack(files))
    cosines = features @ features.T
    who = np.array([path.parent.name for path in paths])
    same = who[:, None] == who
    assert cosines[same].min() > 0.66
    assert cosines[~same].max() < 0.29
