"""Interrupted conversions: the state that they keep next to the store."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from curation.conversion.convert import convert
from curation.inspection import inspect_path
from curation.records.layout_writer import write_layout
from tests.fuzz.harness import Files, reader, take_in
from tests.fuzz.small_sets import PEOPLE, images


class _StopError(Exception):
    pass


def _source(folder: Path) -> Path:
    """A fixed source; its labels descend, so that rows are kept."""
    source = folder / "source"
    labels = [label for label, count in enumerate(PEOPLE) for _ in range(count)]
    write_layout(source, zip(images(), labels[::-1], strict=True), (24, 20))
    for file in source.iterdir():
        os.utime(file, (0, 0))
    return source


def _samples() -> list[Files]:
    with tempfile.TemporaryDirectory() as folder:
        source, place = _source(Path(folder)), Path(folder) / "x.lmdb"

        def stop(done: int, total: int) -> None:
            if done:
                raise _StopError

        with suppress(_StopError):
            convert(source, place, stop)
        return [take_in(place.with_name("x.lmdb.partial"))]


@reader("stopped conversion", _samples, share=0.2)
def read(folder: Path) -> None:
    """Inspect and resume the conversion."""
    source = _source(folder.parent)
    place = folder.rename(folder.with_name("x.lmdb.partial"))
    inspect_path(place)
    convert(source, place.with_name("x.lmdb"))
