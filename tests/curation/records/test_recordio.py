import contextlib
import hashlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import curation.records.index
from curation.errors import UserError
from curation.records.index import read_index, write_index
from curation.records.recordio import (
    MAGIC_BYTES,
    ImageRecord,
    RecordReader,
    RecordWriter,
)


@pytest.fixture
def manifest(mxnet_written):
    return json.loads((mxnet_written / "manifest.json").read_text())


def read_all(path):
    with RecordReader(path) as reader:
        return [record for _, record in reader]


def write_all(path, records):
    with RecordWriter(path) as writer:
        return [writer.write(record) for record in records]


class TestFilesThatMxnetWrote:
    @pytest.mark.parametrize("pack", ["scalar", "array", "bare"])
    def test_every_record_is_read_unchanged(self, mxnet_written, manifest, pack):
        with RecordReader(mxnet_written / pack / "train.rec") as reader:
            read = [(offset, ImageRecord.unpack(record)) for offset, record in reader]
        for (offset, record), wanted in zip(read, manifest[pack], strict=True):
            label = record.label if record.labels is None else list(record.labels)
            digest = hashlib.sha256(record.payload).hexdigest()
            assert (record.id, offset, label) == (wanted["key"], wanted["offset"], wanted["label"])
            assert (len(record.payload), digest) == (wanted["size"], wanted["sha256"])

    def test_records_containing_the_magic_are_joined(self, mxnet_written, manifest):
        wanted = [bytes.fromhex(payload) for payload in manifest["magic"]]
        assert read_all(mxnet_written / "magic.rec") == wanted

    @pytest.mark.parametrize("name", ["scalar/train.rec", "array/train.rec", "magic.rec"])
    def test_written_bytes_equal_those_of_mxnet(self, mxnet_written, name, tmp_path):
        write_all(tmp_path / "ours.rec", read_all(mxnet_written / name))
        assert (tmp_path / "ours.rec").read_bytes() == (mxnet_written / name).read_bytes()

    @pytest.mark.parametrize("pack", ["scalar", "array"])
    def test_packing_an_unpacked_record_changes_nothing(self, mxnet_written, pack):
        for record in read_all(mxnet_written / pack / "train.rec"):
            assert ImageRecord.unpack(record).pack() == record

    def test_the_index_has_the_offsets_of_records(self, mxnet_written, manifest):
        index = read_index(mxnet_written / "scalar" / "train.idx")
        assert index.keys.tolist() == [record["key"] for record in manifest["scalar"]]
        assert index.offsets.tolist() == [record["offset"] for record in manifest["scalar"]]

    def test_any_record_can_be_read_by_its_offset(self, mxnet_written, manifest):
        with RecordReader(mxnet_written / "scalar" / "train.rec") as reader:
            for wanted in reversed(manifest["scalar"]):
                record = ImageRecord.unpack(reader.read(wanted["offset"]))
                assert record.id == wanted["key"]


pieces = st.sampled_from([MAGIC_BYTES, MAGIC_BYTES[:2], b"\0", b"ab", b"wxyz"]) | st.binary()


@given(st.lists(st.lists(pieces, max_size=8).map(b"".join), max_size=5))
def test_written_records_are_read_back(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("rec") / "a.rec"
    offsets = write_all(path, records)
    with RecordReader(path) as reader:
        assert list(reader) == list(zip(offsets, records, strict=True))
    assert path.stat().st_size % 4 == 0


@given(st.integers(0, 3), st.binary(max_size=9), st.integers(0, 2**64 - 1))
def test_any_number_of_labels_is_packed_and_unpacked(count, payload, key):
    labels = tuple(float(value) for value in range(5, 5 + count)) or None
    record = ImageRecord(labels[0] if labels else 3.0, payload, key, 0, labels)
    assert ImageRecord.unpack(record.pack()) == record


class TestDamagedFiles:
    @pytest.fixture
    def record_file(self, tmp_path):
        path = tmp_path / "a.rec"
        write_all(path, [b"first", b"second record", b"x" * 100])
        return path

    @pytest.mark.parametrize("kept", [3, 7, 9, 17, 30, 60, 143])
    def test_a_truncated_file_names_the_byte(self, record_file, kept):
        record_file.write_bytes(record_file.read_bytes()[:kept])
        with pytest.raises(UserError, match=r"a\.rec: record at byte \d+ of .*truncated"):
            read_all(record_file)

    @pytest.mark.parametrize("offset", [0, 16, 40])
    def test_a_wrong_magic_names_the_byte(self, record_file, offset):
        data = bytearray(record_file.read_bytes())
        data[offset : offset + 4] = b"\xde\xad\xbe\xef"
        record_file.write_bytes(data)
        with pytest.raises(UserError, match=rf"byte {offset} .*wrong magic 0xefbeadde"):
            read_all(record_file)

    def test_a_length_beyond_the_file_allocates_no_memory(self, tmp_path):
        (tmp_path / "a.rec").write_bytes(MAGIC_BYTES + struct.pack("<I", (1 << 29) - 1) + b"abcd")
        with pytest.raises(UserError, match="truncated"):
            read_all(tmp_path / "a.rec")

    @pytest.mark.parametrize("cflags", [[2], [3], [1, 0], [1, 1], [1, 2, 0], [5]])
    def test_parts_in_a_wrong_order_are_refused(self, tmp_path, cflags):
        frames = [MAGIC_BYTES + struct.pack("<I", cflag << 29 | 4) + b"abcd" for cflag in cflags]
        (tmp_path / "a.rec").write_bytes(b"".join(frames))
        with pytest.raises(UserError, match="part"):
            read_all(tmp_path / "a.rec")

    def test_a_first_part_without_a_last_is_truncated(self, tmp_path):
        (tmp_path / "a.rec").write_bytes(MAGIC_BYTES + struct.pack("<I", 1 << 29 | 4) + b"abcd")
        with pytest.raises(UserError, match="truncated"):
            read_all(tmp_path / "a.rec")

    def test_a_directory_is_not_a_record_file(self, tmp_path):
        with pytest.raises(UserError, match="is a directory"):
            RecordReader(tmp_path)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"none\.rec: cannot read it: No such file"):
            RecordReader(tmp_path / "none.rec")

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, tmp_path_factory, data):
        path = tmp_path_factory.mktemp("rec") / "a.rec"
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            assert all(isinstance(record, bytes) for record in read_all(path))

    @pytest.mark.parametrize(
        "record", [b"", b"x" * 23, struct.pack("<IfQQ", 3, 0, 0, 0) + b"x" * 8]
    )
    def test_a_record_shorter_than_its_header_is_refused(self, record):
        with pytest.raises(ValueError, match="bytes"):
            ImageRecord.unpack(record)


class TestIndexFiles:
    def test_an_index_is_sorted_by_offset(self, tmp_path):
        write_index(tmp_path / "a.idx", [(5, 80), (3, 0), (4, 40)])
        index = read_index(tmp_path / "a.idx")
        assert index.keys.tolist() == [3, 4, 5]
        assert index.offsets.tolist() == [0, 40, 80]

    def test_an_empty_index_has_no_entries(self, tmp_path):
        (tmp_path / "a.idx").touch()
        assert read_index(tmp_path / "a.idx").keys.size == 0

    @pytest.mark.parametrize("part", [1, 2, 7, 1 << 20])
    def test_lines_are_complete_wherever_a_block_ends(self, tmp_path, monkeypatch, part):
        monkeypatch.setattr(curation.records.index, "_PART_BYTES", part)
        text = "".join(f"{key}\t{40 * key}\r\n" for key in range(9))
        (tmp_path / "a.idx").write_text(text)
        if part < 3:
            with pytest.raises(UserError, match="a line of more than"):
                read_index(tmp_path / "a.idx")
        else:
            assert read_index(tmp_path / "a.idx").offsets.tolist() == [40 * i for i in range(9)]

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_additions_of_editors_are_ignored(self, tmp_path, encoding, end):
        text = end.join(["0\t0", "1\t40", "", "2\t80", "", ""])
        (tmp_path / "a.idx").write_bytes(text.encode(encoding))
        index = read_index(tmp_path / "a.idx")
        assert (index.keys.tolist(), index.offsets.tolist()) == ([0, 1, 2], [0, 40, 80])

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            (b"0\t0\n1\tx\n", "line 2: '1\\\\tx' is not"),
            (b"0\t0\t0\n", "line 1"),
            (b"\xff\xfe\x00", "not UTF-16 text"),
            (b"\x1f\x8b\x08", r"is compressed with gzip, not an index \(\.idx\)"),
            (b"-1\t0\n", "is out of range"),
            (b"1\t99999999999999999999999\n", "is out of range"),
            (b"0\t0\n" + bytes(3 << 20), "a line of more than"),
            (b"1\t40\n2\t40\n", "the byte offset 40 occurs twice"),
        ],
    )
    def test_other_text_is_refused_with_its_line(self, tmp_path, text, complaint):
        (tmp_path / "a.idx").write_bytes(text)
        with pytest.raises(UserError, match=complaint):
            read_index(tmp_path / "a.idx")
