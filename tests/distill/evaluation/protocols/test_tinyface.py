"""TinyFace: searches among distractors, and lists in MATLAB files."""

from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from curation.mat_files import read_mat
from distill.evaluation.protocols.protocol import open_protocol
from tests.distill.evaluation.protocols.people_at_random import drawn
from tests.distill.evaluation.small_protocols import (
    PEOPLE,
    cells,
    element,
    mat_file,
    matrix,
    numbers,
    write_tinyface,
)
from tests.memory import traced_memory


@pytest.mark.parametrize("with_lists", [False, True])
def test_tinyface_searches_probes_among_distractors(tmp_path: Path, with_lists: bool):
    write_tinyface(tmp_path / "Testing_Set", with_lists)
    opened = open_protocol("tinyface", tmp_path)
    people = np.concatenate(
        [np.arange(PEOPLE), np.repeat(np.arange(PEOPLE), 2), -np.ones(20, np.int64)]
    )
    report = opened.score(drawn(len(people), people, noise=0.2), True)
    assert report["closed_set"]["ranks"]["1"]["rate"] == 1
    assert (report["probes"], report["enrolled"], report["distractors"]) == (8, 16, 20)


def test_narrow_faces_are_padded_to_a_square(tmp_path: Path):
    write_tinyface(tmp_path)
    pixels = open_protocol("tinyface", tmp_path).faces.pixels(0)
    assert pixels.shape == (20, 20, 3)
    assert not pixels[:, :2].any()
    assert not pixels[:, -2:].any()


def test_matlab_lists_give_the_identities(tmp_path: Path):
    write_tinyface(tmp_path, with_lists=True)
    names = [f"{s}_1.jpg" for s in range(PEOPLE)]
    people = cells("probe_set", names) + numbers("probe_ids", [7.0] * PEOPLE)
    (tmp_path / "probe_img_ID_pairs.mat").write_bytes(mat_file(people))
    people = np.concatenate([[7] * 8, np.repeat(np.arange(8), 2), -np.ones(20, np.int64)])
    report = open_protocol("tinyface", tmp_path).score(drawn(44, people, noise=0.2), True)
    assert report["closed_set"]["ranks"]["1"]["rate"] == 1


def test_a_probe_without_a_mate_is_refused(tmp_path: Path):
    write_tinyface(tmp_path)
    for path in (tmp_path / "Gallery_Match").glob("3_*"):
        path.unlink()
    with pytest.raises(UserError, match="no image of person 3 \\(probes without a mate: 1\\)"):
        open_protocol("tinyface", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(600), "save it with -v7"),
        (mat_file(numbers("probe_ids", [1.0])), "probe_set is missing"),
        (
            mat_file(cells("probe_set", ["../x.jpg"]) + numbers("probe_ids", [1.0])),
            "not the name of",
        ),
        (
            mat_file(cells("probe_set", ["x.jpg"]) + numbers("probe_ids", [0.5])),
            "not a whole number",
        ),
        (mat_file(cells("probe_set", ["x.jpg"]))[:-9], "damaged"),
        (mat_file(matrix(1, "probe_set", (1 << 30, 1), b"")), "cells of 'probe_set' are 0"),
        (mat_file(element(15, b"nothing that is packed")), "damaged"),
        # The product of so many numbers takes a minute.
        (mat_file(matrix(6, "some", (2,) * 10**6, b"")), "1,000,000 axes; at most 32"),
    ],
    ids=["empty", "hdf5", "no names", "path", "half", "cut", "huge", "unpackable", "axes"],
)
def test_bad_matlab_lists_are_refused(tmp_path: Path, content: bytes, message: str):
    write_tinyface(tmp_path)
    (tmp_path / "probe_img_ID_pairs.mat").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_protocol("tinyface", tmp_path)


def test_small_parts_of_a_matlab_array_take_no_memory(tmp_path: Path):
    path = tmp_path / "some.mat"
    path.write_bytes(mat_file(matrix(6, "some", (1, 1), element(9, b"") * 10**5)))
    with traced_memory() as memory, pytest.raises(UserError, match="'some' has 0 numbers, not 1"):
        read_mat(path)
    assert memory.peak < 6 * path.stat().st_size


def test_matlab_numbers_texts_and_cells_are_read(tmp_path: Path):
    path = tmp_path / "some.mat"
    content = numbers("some", [1.0, 2.5]) + cells("names", ["ä.jpg", "b"])
    path.write_bytes(mat_file(content, packed=True))
    found = read_mat(path)
    assert found["names"] == ["ä.jpg", "b"]
    assert np.array_equal(found["some"], [1.0, 2.5])


def test_hidden_files_are_no_faces(tmp_path: Path):
    write_tinyface(tmp_path)
    count = len(open_protocol("tinyface", tmp_path).faces)
    for part in ("Probe", "Gallery_Match", "Gallery_Distractor"):
        (tmp_path / part / "._1_1.jpg").write_bytes(b"metadata of macOS")
    assert len(open_protocol("tinyface", tmp_path).faces) == count
