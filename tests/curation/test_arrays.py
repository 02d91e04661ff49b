import errno
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from curation.array_archives import MOST_MEMBERS, read_arrays
from curation.arrays import map_array, read_array, read_head, write_array
from curation.files import UnreadableError
from tests.memory import traced_memory

ARRAYS = {
    "a row": np.arange(5),
    "a table": np.arange(6, dtype="<f4").reshape(3, 2),
    "in Fortran order": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    "of another machine": np.arange(3, dtype=">f8"),
    "one number": np.array(3, "<u1"),
    "nothing": np.zeros((0, 3), "<f2"),
    "booleans": np.array([True, False]),
    "texts": np.array(["a", "bcd"]),
}


def npy(text, numbers=b"", version=b"\1\0"):
    packed = text.encode("latin-1")
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(packed))
    return b"\x93NUMPY" + version + length + packed + numbers


def head(kind="'<i8'", order="False", shape="(2,)"):
    return f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize("name", ["a row", "a table", "nothing", "booleans"])
def test_arrays_are_written_as_by_numpy(name):
    ours, wanted = io.BytesIO(), io.BytesIO()
    write_array(ours, ARRAYS[name])
    np.save(wanted, ARRAYS[name])
    assert ours.getvalue() == wanted.getvalue()


def test_a_full_disk_keeps_its_error_number():
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as error,
    ):
        write_array(file, ARRAYS["a row"])
    assert error.value.errno == errno.ENOSPC


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_written_by_numpy_are_read(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    found = read_head(tmp_path / "a.npy")
    assert (found.kind, found.shape) == (array.dtype, array.shape)
    again = read_array(tmp_path / "a.npy", array.dtype, array.shape)
    np.testing.assert_array_equal(again, array)
    assert again.dtype == array.dtype
    if array.size and not found.is_transposed:
        np.testing.assert_array_equal(
            map_array(tmp_path / "a.npy", array.dtype, array.shape), array
        )


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0"])
@pytest.mark.parametrize(
    "text",
    [
        head(),
        head(kind="'=i8'"),
        head(shape="(2)"),
        "{'shape': (2,), 'descr': '<i8', 'fortran_order': True}",
        head().ljust(117) + "\n",
    ],
)
def test_headers_of_other_writers_are_read(tmp_path, text, version):
    (tmp_path / "a.npy").write_bytes(npy(text, np.array([5, 6]).tobytes(), version))
    assert read_array(tmp_path / "a.npy", np.dtype("<i8"), (2,)).tolist() == [5, 6]


NUMBERS = bytes(16)
BROKEN = {
    "nothing": (b"", "not a NumPy array"),
    "a zip": (b"PK\3\4" + bytes(100), "not a NumPy array"),
    "text": (b"0 1 2 3\n" * 10, "not a NumPy array"),
    "format 3": (npy(head(), NUMBERS, b"\3\0"), "format version is 3.0"),
    "only a magic": (b"\x93NUMPY\1\0", "truncated"),
    "a cut head": (npy(head())[:40], "truncated"),
    "a long head": (npy(head().ljust(5000), NUMBERS), "5,000 bytes"),
    "a head of 4 GB": (b"\x93NUMPY\2\0\xff\xff\xff\xff", "4,294,967,295 bytes"),
    "a call": (npy(head(shape="(print(1),)"), NUMBERS), "not written by NumPy"),
    "a deep expression": (npy("(" * 4000), "not written by NumPy"),
    "a key twice": (npy("{'descr': '<i8', 'descr': '<i8', 'shape': (2,)}"), "not written by NumPy"),
    "a key more": (npy(head()[:-1] + "'x': (1,), }", NUMBERS), "not written by NumPy"),
    "no order": (npy(head(order="'C'"), NUMBERS), "not written by NumPy"),
    "a negative length": (npy(head(shape="(-2,)"), NUMBERS), r"its shape is \(-2,\)"),
    "a length that is none": (npy(head(shape="(2.0,)"), NUMBERS), "its shape is"),
    "twenty digits": (npy(head(shape="(99999999999999999999,)"), NUMBERS), "its shape is"),
    "thirty axes": (npy(head(shape=f"({'1,' * 30})"), bytes(8)), "its shape is"),
    "objects": (npy(head("'|O'"), NUMBERS), r"it holds '\|O'; numbers are expected"),
    "records": (npy(head("[('a', '<i8')]"), NUMBERS), "not written by NumPy"),
    "times": (npy(head("'<M8[s]'"), NUMBERS), "it holds '<M8"),
    "complex": (npy(head("'<c16'"), NUMBERS), "it holds '<c16'"),
    "no bytes": (npy(head("'<U0'"), b""), "it holds '<U0'"),
    "an integer of 3 bytes": (npy(head("'<i3'"), bytes(6)), "it holds '<i3'"),
    "a boolean of 8 bytes": (npy(head("'<b8'"), NUMBERS), "it holds '<b8'"),
    "too few numbers": (npy(head(), bytes(15)), r"15 bytes of data; int64 \[2\] needs 16"),
    "too many numbers": (npy(head(), bytes(17)), r"17 bytes of data; int64 \[2\] needs 16"),
    "a petabyte": (npy(head(shape="(1000000000000000,)"), NUMBERS), "needs 8,000,000"),
    "more than there is": (npy(head(shape=f"({10**17}, {10**17})"), NUMBERS), "needs 8"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_invalid_arrays_are_refused_before_allocation(tmp_path, content, reason):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with traced_memory() as memory:
        for use in (read_head, lambda path: read_array(path, np.dtype("<i8"), (2,))):
            with pytest.raises(UnreadableError, match=reason) as refused:
                use(path)
            assert "\n" not in refused.value.reason
            assert len(refused.value.reason) < 200
    assert memory.peak < 1 << 20


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.arange(3), r"int64 \[3\]"),
        (np.arange(2, dtype="<i4"), r"int32 \[2\]"),
        (np.arange(2, dtype=">i8"), r">i8 \[2\]"),
        (np.zeros((2, 1), "<i8"), r"int64 \[2, 1\]"),
    ],
)
def test_an_array_of_another_type_or_shape_is_named(tmp_path, array, found):
    np.save(tmp_path / "a.npy", array)
    for read in (read_array, map_array):
        with pytest.raises(UnreadableError, match=rf"it is {found}, not int64 \[2\]"):
            read(tmp_path / "a.npy", np.dtype("<i8"), (2,))


def test_fortran_order_is_not_mapped(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.zeros((3, 2))))
    with pytest.raises(UnreadableError, match="Fortran order"):
        map_array(tmp_path / "a.npy", np.dtype("<f8"), (3, 2))


def test_pipes_and_devices_are_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    (tmp_path / "b.npy").symlink_to("/dev/zero")
    for name in ("a.npy", "b.npy", "absent.npy", "."):
        for read in (read_head, lambda path: read_arrays(path, 100)):
            with pytest.raises(UnreadableError):
                read(tmp_path / name)


class TestArchives:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_arrays_written_by_numpy_are_read(self, tmp_path, save):
        save(tmp_path / "a.npz", **ARRAYS)
        found = read_arrays(tmp_path / "a.npz", 1 << 20)
        assert found.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype

    def refuses(self, path, reason, largest=100):
        with traced_memory() as memory, pytest.raises(UnreadableError, match=reason) as refused:
            read_arrays(path, largest)
        assert memory.peak < 4 << 20
        assert "\n" not in str(refused.value)

    def archive(self, path, members, kind=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", kind) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return path

    def test_a_compression_bomb(self, tmp_path):
        zeros = npy(head(shape="(2000000,)"), bytes(16_000_000))
        path = self.archive(tmp_path / "a.npz", [("x.npy", zeros)])
        assert path.stat().st_size < 200_000
        self.refuses(path, r"x\.npy would take 16000000 bytes, at most 100 are allowed")

    def test_members_whose_headers_state_another_length(self, tmp_path):
        for content in (bytes(15), bytes(17), bytes(10_000_000)):
            path = self.archive(tmp_path / "a.npz", [("x.npy", npy(head(), content))])
            self.refuses(path, r"x\.npy is int64 \[2\] in \d+ bytes")

    @pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_compression_that_numpy_does_not_use(self, tmp_path, kind):
        path = self.archive(tmp_path / "a.npz", [("x.npy", npy(head(), NUMBERS))], kind)
        self.refuses(path, "compressed in a way that NumPy does not use")

    def test_many_members(self, tmp_path):
        members = [(f"{i}.npy", npy(head(), NUMBERS)) for i in range(MOST_MEMBERS + 1)]
        self.refuses(self.archive(tmp_path / "a.npz", members), "it holds 33 arrays")

    def test_a_huge_central_directory(self, tmp_path):
        members = [(f"{i:050}.npy", b"") for i in range(5_000)]
        path = self.archive(tmp_path / "a.npz", members)
        self.refuses(path, r"its list of arrays has [\d,]+ bytes", largest=1 << 30)

    def test_booleans_that_are_neither_0_nor_1(self, tmp_path):
        content = npy(head("'|b1'"), b"\1\2")
        path = self.archive(tmp_path / "a.npz", [("x.npy", content)])
        self.refuses(path, r"x\.npy holds booleans that are neither 0 nor 1")

    def test_a_duplicate_name(self, tmp_path):
        path = self.archive(tmp_path / "a.npz", [(f"{n}.npy", npy(head(), NUMBERS)) for n in "xy"])
        path.write_bytes(path.read_bytes().replace(b"y.npy", b"x.npy"))
        self.refuses(path, "arrays have the same name")

    def test_flipped_bits_and_truncation_are_refused_or_harmless(self, tmp_path):
        file = io.BytesIO()
        np.savez_compressed(file, a=np.arange(3), b=np.ones(2, bool))
        whole = file.getvalue()
        path = tmp_path / "a.npz"
        refused = 0
        for at in range(len(whole)):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << at % 8
            for content in (bytes(flipped), whole[:at]):
                path.write_bytes(content)
                try:
                    found = read_arrays(path, 100)
                except UnreadableError:
                    refused += 1
                else:
                    assert {len(array) for array in found.values()} <= {2, 3}
        assert refused > 1.2 * len(whole)
