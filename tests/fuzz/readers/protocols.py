"""Published protocols in their own file formats, and features written by their tools."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from curation.images import encode_jpeg
from curation.mat_files import read_mat
from distill.evaluation.protocols.matrices import read_matrix
from distill.evaluation.protocols.protocol import open_protocol
from tests.distill.evaluation.small_protocols import (
    cells,
    mat_file,
    numbers,
    write_ijb,
    write_lfr,
    write_matrix,
    write_megaface,
    write_tinyface,
)
from tests.fuzz.harness import Files, reader, take_in

_WRITERS: dict[str, Callable[[Path], None]] = {
    "ijbc": write_ijb,
    "lfr": write_lfr,
    "megaface": write_megaface,
    "tinyface": lambda folder: write_tinyface(folder, with_lists=True),
}


def _lists(name: str) -> list[Files]:
    with tempfile.TemporaryDirectory() as folder:
        _WRITERS[name](Path(folder))
        files = take_in(Path(folder))
    tiny = encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    is_image = (".jpg", ".png")
    return [{path: tiny if path.endswith(is_image) else files[path] for path in files}]


def _open(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> None:
        opened = open_protocol(name, folder)
        opened.faces.check_there()
        for number in range(min(2, len(opened.faces))):
            opened.faces.pixels(number)

    return read


for _name in _WRITERS:
    reader(f"protocol {_name}", lambda name=_name: _lists(name), share=0.3)(_open(_name))  # type: ignore[misc]


def _mat() -> list[Files]:
    content = cells("probe_set", ["1_2.jpg", "ä.png"]) + numbers("probe_ids", [1.0, 2.0])
    return [{"lists.mat": mat_file(content)}, {"lists.mat": mat_file(content, packed=True)}]


@reader("mat", _mat)
def read_variables(folder: Path) -> None:
    """Read the layout of TinyFace."""
    read_mat(folder / "lists.mat")


def _matrices() -> list[Files]:
    with tempfile.TemporaryDirectory() as folder:
        write_matrix(Path(folder) / "lfr.bin", np.ones((3, 4)))
        return [take_in(Path(folder))]


@reader("matrix", _matrices, share=0.3)
def read_features(folder: Path) -> None:
    """Read the layout of LFR and MegaFace."""
    read_matrix(folder / "lfr.bin")
