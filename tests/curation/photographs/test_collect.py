"""Photographs become a store; a substitute detector replaces a trained one."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from standin_detector import drawn_face, picture_with, standin_detector

from curation.errors import UserError
from curation.images import encode_jpeg
from curation.photographs.collect import collect_faces
from curation.photographs.faces import FaceSettings
from curation.photographs.photograph import Photograph
from curation.photographs.table import count_fates
from curation.store import Store
from teachers.photographs import FaceCutter


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin_detector(tmp_path_factory.mktemp("detector") / "standin.onnx")


@pytest.fixture(scope="module")
def cutter(detector: Path) -> Iterator[FaceCutter]:
    with FaceCutter(detector, FaceSettings(faces="all"), processes=1) as made:
        yield made


def take(path: Path, *people: int, sides: Iterable[int] = (220, 128, 40)) -> None:
    """A photograph of these people, the first one the largest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [(2, 3), (12, 4), (20, 4)]
    faces = [
        (drawn_face(person), cell, side)
        for person, cell, side in zip(people, cells, sides, strict=False)
    ]
    path.write_bytes(encode_jpeg(picture_with(faces, (320, 768))))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two people, an unlabelled photograph, and other files that albums contain."""
    root = tmp_path / "album"
    take(root / "anna/1.jpg", 1)
    take(root / "anna/2.jpg", 1, 5)
    take(root / "ben/10.jpg", 2, 3, 4)
    take(root / "ben/9.jpg", 2)
    take(root / "street.jpg", 6, 7)
    (root / "ben/empty.jpg").write_bytes(encode_jpeg(np.full((90, 90, 3), 90, np.uint8)))
    (root / "ben/film.jpg").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(99))
    whole = (root / "anna/1.jpg").read_bytes()
    (root / "anna/cut.jpg").write_bytes(whole[: len(whole) // 2])
    return root


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_store_among_the_photographs_adds_none(
    album: Path, tmp_path: Path, cutter: FaceCutter
) -> None:
    first = collect_faces(album, album / "faces.lmdb", cutter)
    assert first.sheet.parent == album
    again = collect_faces(album, album / "faces.lmdb", cutter)
    assert again.was_complete
    assert again.photographs == first.photographs
    (album / "family.faces.jpg").write_bytes((album / "anna/1.jpg").read_bytes())
    other = collect_faces(album, tmp_path / "b.lmdb", cutter)
    assert other.photographs == first.photographs + 1


def test_photographs_become_a_store_and_a_table(
    album: Path, tmp_path: Path, cutter: FaceCutter
) -> None:
    made = collect_faces(album, tmp_path / "faces.lmdb", cutter)
    store = made.store
    assert (len(store), store.identities, store.unlabelled) == (8, 2, 4)
    assert store.labels.tolist() == [0, 0, 1, 1, -1, -1, -1, -1]
    assert store.source_names == (
        *("anna/1.jpg", "anna/2.jpg/1", "ben/9.jpg", "ben/10.jpg/1"),
        *("street.jpg/1", "street.jpg/2", "anna/2.jpg/2", "ben/10.jpg/2"),
    )
    rows = table_of(tmp_path / "faces.faces.tsv")
    assert {row["photograph"]: row["fate"] for row in rows if not row["face"]} == {
        "anna/cut.jpg": "unreadable",
        "ben/empty.jpg": "no-face",
        "ben/film.jpg": "unreadable",
    }
    small = next(row for row in rows if row["fate"] == "small")
    assert (small["photograph"], small["face"]) == ("ben/10.jpg", "3")
    assert made.fates == count_fates(made.table) == {
        "kept": 8, "small": 1, "no-face": 1, "unreadable": 2
    }  # fmt: skip
    keys = {int(row["key"]): row for row in rows if row["fate"] == "kept"}
    for i, (key, label) in enumerate(zip(store.source_keys, store.labels, strict=True)):
        assert store.source_names[i].startswith(keys[int(key)]["photograph"])
        assert int(keys[int(key)]["label"]) == label
    assert cv2.imread(str(made.sheet)).shape[1] > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "album", "faces.faces.jpg", "faces.faces.tsv", "faces.lmdb"
    ]  # fmt: skip


def test_faces_are_cut_out_at_their_positions(
    album: Path, tmp_path: Path, cutter: FaceCutter
) -> None:
    from curation.images import decode

    store = collect_faces(album, tmp_path / "faces.lmdb", cutter).store
    faces = [decode(file).astype(int) for file in store.read_many(np.arange(8))]
    drawn = [drawn_face(person).astype(int) for person in range(8)]
    nearest = [int(np.argmin([np.abs(face - one).mean() for one in drawn])) for face in faces]
    assert nearest == [1, 1, 2, 2, 6, 7, 5, 3]


def test_the_same_command_again_has_nothing_to_do(
    album: Path, tmp_path: Path, cutter: FaceCutter, detector: Path
) -> None:
    first = collect_faces(album, tmp_path / "faces.lmdb", cutter)
    again = collect_faces(album, tmp_path / "faces.lmdb", cutter)
    assert again.was_complete
    assert again.fates == first.fates
    with (
        FaceCutter(detector, FaceSettings(faces="largest"), processes=1) as other,
        pytest.raises(UserError, match="with another detector or with other settings"),
    ):
        collect_faces(album, tmp_path / "faces.lmdb", other)
    take(album / "anna/3.jpg", 1)
    with pytest.raises(UserError, match="made from other photographs"):
        collect_faces(album, tmp_path / "faces.lmdb", cutter)


def test_unlabelled_folders_are_not_people(album: Path, tmp_path: Path, cutter: FaceCutter) -> None:
    store = collect_faces(album, tmp_path / "faces.lmdb", cutter, unlabelled=True).store
    assert (store.identities, store.unlabelled) == (0, 8)


class Stops:
    """A cutter that is interrupted after this many photographs."""

    def __init__(self, cutter: FaceCutter, after: int) -> None:
        self.settings, self.digest = cutter.settings, cutter.digest
        self._cutter, self._after = cutter, after

    def cut(self, paths: Iterable[Path]) -> Iterator[Photograph]:
        for number, path in enumerate(paths):
            if number == self._after:
                raise KeyboardInterrupt
            yield self._cutter._cut_one(path)


@pytest.mark.parametrize("damage", ["none", "row", "faces"])
def test_a_stopped_run_is_resumed(
    album: Path, tmp_path: Path, cutter: FaceCutter, damage: str
) -> None:
    whole = collect_faces(album, tmp_path / "whole.lmdb", cutter)
    with pytest.raises(KeyboardInterrupt):
        collect_faces(album, tmp_path / "faces.lmdb", Stops(cutter, 5))
    work = tmp_path / "faces.faces.partial"
    if damage == "row":
        with (work / "rows.jsonl").open("ab") as file:
            file.write(b'{"photograph": 5, "rea')
    elif damage == "faces":
        os.truncate(work / "faces.bin", (work / "faces.bin").stat().st_size - 10)
    seen: list[int] = []
    resumed = collect_faces(
        album, tmp_path / "faces.lmdb", cutter, progress=lambda done, total: seen.append(done)
    )
    assert seen[0] == {"none": 6, "row": 6, "faces": 5}[damage]
    assert resumed.store.digest == whole.store.digest
    assert resumed.table.read_bytes() == whole.table.read_bytes()


def test_a_stopped_run_with_other_settings_is_refused(
    album: Path, tmp_path: Path, cutter: FaceCutter
) -> None:
    with pytest.raises(KeyboardInterrupt):
        collect_faces(album, tmp_path / "faces.lmdb", Stops(cutter, 2))
    take(album / "anna/3.jpg", 1)
    with pytest.raises(UserError, match="was started with other photographs"):
        collect_faces(album, tmp_path / "faces.lmdb", cutter)


def test_if_no_face_is_kept_the_reasons_are_reported(tmp_path: Path, cutter: FaceCutter) -> None:
    take(tmp_path / "album/1.jpg", 1, sides=[40])
    with pytest.raises(UserError, match=r"no face .* kept: 1 small; .*faces.tsv has the reason"):
        collect_faces(tmp_path / "album", tmp_path / "faces.lmdb", cutter)
    assert not (tmp_path / "faces.lmdb").exists()


def test_a_folder_without_photographs_is_refused(tmp_path: Path, cutter: FaceCutter) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        collect_faces(tmp_path / "none", tmp_path / "faces.lmdb", cutter)
    (tmp_path / "album").mkdir()
    (tmp_path / "album/notes.txt").write_text("hello")
    with pytest.raises(UserError, match="holds no photographs; expected"):
        collect_faces(tmp_path / "album", tmp_path / "faces.lmdb", cutter)


def test_odd_names_are_preserved(tmp_path: Path, cutter: FaceCutter) -> None:
    odd = 'tab\there "quoted" \udcff\n.jpg'
    take(tmp_path / "album" / odd, 1)
    store = collect_faces(tmp_path / "album", tmp_path / "faces.lmdb", cutter).store
    assert store.source_names == (odd,)
    assert count_fates(tmp_path / "faces.faces.tsv") == {"kept": 1}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "distill.cli.curate", "photos", *arguments]


def test_the_command_reports_its_results(album: Path, tmp_path: Path, detector: Path) -> None:
    line = command(str(album), str(tmp_path / "faces.lmdb"), "--detector", str(detector), "--json")
    done = subprocess.run(line, capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert (told["photographs"], told["images"], told["identities"]) == (8, 5, 2)
    assert told["set_aside"] == {"no-face": 1, "not-chosen": 4, "unreadable": 2}
    again = subprocess.run(line, capture_output=True, check=True)
    assert json.loads(again.stdout) == told
    assert b"nothing to do" in again.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--min-size", "0"], "error: --min-size 0: must be at least 1"),
        (["--score", "nan"], "error: --score nan"),
        (["--max-turn", "100"], "error: --max-turn 100.0"),
    ],
)
def test_invalid_options_are_named(
    album: Path, tmp_path: Path, detector: Path, option: list[str], message: str
) -> None:
    line = command(str(album), str(tmp_path / "x.lmdb"), "--detector", str(detector), *option)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr


def test_an_interrupted_run_leaves_no_process(tmp_path: Path, detector: Path) -> None:
    for number in range(24):
        take(tmp_path / f"album/{number}.jpg", number % 5)
    line = command(str(tmp_path / "album"), str(tmp_path / "x.lmdb"), "--detector", str(detector))
    run = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    rows = tmp_path / "x.faces.partial/rows.jsonl"
    while not rows.exists() or rows.stat().st_size == 0:
        assert run.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    done = subprocess.run(line, capture_output=True, check=False)
    assert done.returncode == 0
    assert len(Store(tmp_path / "x.lmdb")) == 24
