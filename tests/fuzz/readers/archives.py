"""Images in other files: tar and zip archives, Parquet tables, Arrow streams, foreign LMDBs."""

import gzip
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq

from curation.conversion.convert import convert
from curation.inspection import inspect_path
from tests.fuzz.harness import Files, reader
from tests.fuzz.small_sets import images


def _members(labelled: bool) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for i, image in enumerate(images()[:9]):
        files[f"{i}.jpg" if labelled else f"{i % 3}/{'n' * 20 * i}{i}.jpg"] = image
        if labelled:
            label = (b"%d" % (i % 3), b'{"label": %d}' % (i % 3))[i % 2]
            files[f"{i}.{('cls', 'json')[i % 2]}"] = label
    return files


def _tar(labelled: bool, form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in _members(labelled).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _tars() -> list[Files]:
    plain = [_tar(*kind) for kind in ((True, tarfile.USTAR_FORMAT), (False, tarfile.PAX_FORMAT))]
    return [
        {"a.tar": plain[0]},
        {"a.tar": plain[1], "b.tar": plain[1]},
        {"a.tar": _tar(False, tarfile.GNU_FORMAT)},
        {"a.tar.gz": gzip.compress(plain[0], mtime=0)},
    ]


def _zips() -> list[Files]:
    found: list[Files] = []
    for labelled, method in ((True, zipfile.ZIP_STORED), (False, zipfile.ZIP_DEFLATED)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in _members(labelled).items():
                archive.writestr(zipfile.ZipInfo(name), data, method)
        found.append({"a.zip": buffer.getvalue()})
    return found


def _tables() -> list[Files]:
    found: list[Files] = []
    rows = [{"bytes": image, "path": f"{i}.jpg"} for i, image in enumerate(images()[:9])]
    for column, compression in ((rows, "none"), ([row["bytes"] for row in rows], "snappy")):
        buffer = io.BytesIO()
        table = pa.table({"image": column, "label": [i % 3 for i in range(9)]})
        pq.write_table(table, buffer, row_group_size=4, compression=compression)
        found.append({"a.parquet": buffer.getvalue()})
    return found


def _streams() -> list[Files]:
    found: list[Files] = []
    for plain in (False, True):
        rows = [
            {"image": image if plain else {"bytes": image, "path": f"{i}.jpg"}, "label": i % 3}
            for i, image in enumerate(images()[:9])
        ]
        table, buffer = pa.Table.from_pylist(rows), io.BytesIO()
        with pa.ipc.new_stream(buffer, table.schema) as stream:
            stream.write_table(table, max_chunksize=4)
        found.append({"data-00000-of-00001.arrow": buffer.getvalue()})
    return found


def _environments() -> list[Files]:
    found: list[Files] = []
    for packed in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "a.lmdb"
            with (
                lmdb.open(str(file), 1 << 20, subdir=False, lock=False) as environment,
                environment.begin(write=True) as writing,
            ):
                for i, image in enumerate(images()[:9]):
                    head = b"\x92\xc5" + len(image).to_bytes(2, "big")
                    writing.put(b"%d" % i, head + image + b"%c" % (i % 3) if packed else image)
            labels = {} if packed else {"labels.txt": b"".join(b"%d 1\n" % i for i in range(9))}
            found.append({"data.mdb": file.read_bytes(), **labels})
    return found


def _convert(folder: Path) -> None:
    store = convert(folder, folder.with_name("a.lmdb"), skip_bad=True)
    inspect_path(store.path)


@reader("tar archives", _tars, share=0.7)
def read_tars(folder: Path) -> None:
    """Convert the archives, skipping bad records."""
    _convert(folder)


@reader("zip archives", _zips, share=0.7)
def read_zips(folder: Path) -> None:
    """Convert the archives, skipping bad records."""
    _convert(folder)


@reader("parquet tables", _tables, share=0.7)
def read_tables(folder: Path) -> None:
    """Convert the tables, skipping bad records."""
    _convert(folder)


@reader("arrow streams", _streams, share=0.7)
def read_streams(folder: Path) -> None:
    """Convert the streams, skipping bad records."""
    _convert(folder)


@reader("LMDB of others", _environments, share=0.7)
def read_environments(folder: Path) -> None:
    """Convert the environments, skipping bad records."""
    _convert(folder)
