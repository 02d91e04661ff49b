import json
import os
import struct

import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.records.index import write_index
from curation.records.layout_writer import write_layout
from curation.records.ms1m import find_source, stated_image_size
from curation.records.recordio import MAGIC, ImageRecord, RecordReader, RecordWriter
from curation.sources.opening import open_source
from curation.sources.records import read_images


def write_records(folder, records):
    """Write any records, with a matching index."""
    folder.mkdir(exist_ok=True)
    with RecordWriter(folder / "train.rec") as writer:
        offsets = [writer.write(record.pack()) for record in records]
    write_index(folder / "train.idx", list(enumerate(offsets)))
    return folder


def read(folder):
    return list(read_images(find_source(folder)))


class TestReading:
    @pytest.mark.parametrize("pack", ["scalar", "array", "bare"])
    def test_packs_that_mxnet_wrote_give_their_images_and_labels(self, mxnet_written, pack):
        manifest = json.loads((mxnet_written / "manifest.json").read_text())[pack]
        wanted = [record for record in manifest if record["size"]]
        images = read(mxnet_written / pack)
        assert [image.label for image in images] == [0, 0, 0, 1, 2, 2]
        assert [image.key for image in images] == [record["key"] for record in wanted]
        assert [image.offset for image in images] == [record["offset"] for record in wanted]
        assert [len(image.payload) for image in images] == [record["size"] for record in wanted]

    def test_without_an_index_records_are_numbered_in_order(self, write_source):
        source = write_source({0: 2, 1: 3})
        indexed = read(source)
        (source / "train.idx").unlink()
        assert read(source) == indexed

    def test_keys_come_from_the_index(self, write_source):
        source = write_source({0: 2})
        lines = (source / "train.idx").read_text().splitlines()
        shifted = [f"{int(line.split()[0]) + 100}\t{line.split()[1]}" for line in reversed(lines)]
        (source / "train.idx").write_text("\n".join(shifted))
        assert [image.key for image in read(source)] == [101, 102]

    def test_an_index_of_images_only_is_accepted(self, write_source):
        source = write_source({0: 2, 4: 1})
        lines = (source / "train.idx").read_text().splitlines(keepends=True)
        (source / "train.idx").write_text("".join(lines[1:4]))
        assert [image.label for image in read(source)] == [0, 0, 4]

    def test_identity_ranges_are_never_used(self, tmp_path, noise_images):
        # Glint360K's ranges are off by one, because they are stored as float32.
        header = ImageRecord(0.0, b"", labels=(17186136.0, 17546368.0))
        images = [ImageRecord(float(label), noise_images[0]) for label in (7, 7, 9)]
        ranges = [ImageRecord(0.0, b"", labels=bounds) for bounds in ((1.0, 99.0), (5.0, 1.0))]
        source = write_records(tmp_path, [header, *images, *ranges])
        assert [image.label for image in read(source)] == [7, 7, 9]

    def test_progress_counts_the_bytes_of_the_file(self, write_source):
        source = find_source(write_source({0: 3}))
        calls = []
        list(read_images(source, lambda done, total: calls.append((done, total))))
        size = source.records.stat().st_size
        assert calls[-1] == (size, size)


class TestDamage:
    @pytest.mark.parametrize(
        ("label", "shown"),
        [
            (-1.0, "-1"),
            (float("nan"), "nan"),
            (2.5, "2.5"),
            (float("inf"), "inf"),
            (2.0**25, "33554432"),
        ],
    )
    @pytest.mark.parametrize("array", [False, True])
    def test_an_invalid_label_names_its_record(self, tmp_path, noise_images, label, shown, array):
        labels = (label, 0.0) if array else None
        good = ImageRecord(0.0, noise_images[0])
        write_records(tmp_path, [good, ImageRecord(label, noise_images[0], labels=labels)])
        with pytest.raises(UserError, match=rf"record 1 at byte \d+: label {shown}.* is not an id"):
            read(tmp_path)

    def test_a_record_without_an_image_header_is_refused(self, tmp_path):
        with RecordWriter(tmp_path / "train.rec") as writer:
            writer.write(b"short")
        with pytest.raises(UserError, match="byte 0: it is not an image record"):
            read(tmp_path)

    def test_a_record_that_announces_too_many_labels_is_refused(self, tmp_path):
        with RecordWriter(tmp_path / "train.rec") as writer:
            writer.write(struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0))
        with pytest.raises(UserError, match="announces 4294967295 labels"):
            read(tmp_path)

    def test_an_empty_file_has_no_images(self, tmp_path):
        (tmp_path / "train.rec").touch()
        with pytest.raises(UserError, match="holds no images"):
            read(tmp_path)

    def test_a_file_with_only_a_header_has_no_images(self, tmp_path):
        write_records(tmp_path, [ImageRecord(0.0, b"", labels=(1.0, 1.0))])
        with pytest.raises(UserError, match="holds no images"):
            read(tmp_path)

    @pytest.mark.parametrize("indexed", [True, False])
    def test_a_file_cut_between_two_records_is_detected(self, write_source, indexed):
        source = write_source({0: 2, 1: 2})
        with RecordReader(source / "train.rec") as reader:
            offsets = [offset for offset, _ in reader]
        whole = (source / "train.rec").read_bytes()
        (source / "train.rec").write_bytes(whole[: offsets[3]])
        if not indexed:
            (source / "train.idx").unlink()
        complaint = "does not fit" if indexed else "announces 4 images, it holds 2"
        with pytest.raises(UserError, match=complaint):
            read(source)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda lines: lines[:-4], "lacks the image"),
            (lambda lines: [*lines, "99\t99999999"], "no record begins at byte 99999999"),
            (lambda lines: [lines[0], "1\t44", *lines[2:]], "no record begins at byte 44"),
            (lambda lines: [], "lacks the image at byte 40"),
        ],
    )
    def test_a_mismatched_index_is_reported_with_its_place(self, write_source, change, complaint):
        source = write_source({0: 3, 1: 1})
        lines = (source / "train.idx").read_text().splitlines()
        (source / "train.idx").write_text("\n".join(change(lines)))
        with pytest.raises(UserError, match=rf"train\.idx does not fit train\.rec.*{complaint}"):
            read(source)

    def test_empty_records_do_not_claim_a_full_disk(self, tmp_path):
        (tmp_path / "train.rec").write_bytes(struct.pack("<II", MAGIC, 0) * 10_000)
        sizes = list(open_source(tmp_path).image_sizes())
        assert sum(map(len, sizes)) <= 10_000


class TestFindingASource:
    def test_an_index_of_another_file_needs_no_more_space(self, write_source, tmp_path):
        source = write_source({0: 2, 1: 1})
        index = source / "train.idx"
        index.write_text(index.read_text() + f"99\t{1 << 50}\n")
        with pytest.raises(UserError, match=f"no record begins at byte {1 << 50}"):
            convert(source, tmp_path / "a.lmdb")

    def test_a_folder_provides_all_its_files(self, write_source):
        folder = write_source({0: 1})
        (folder / "lfw.bin").touch()
        (folder / "agedb_30.bin").touch()
        source = find_source(folder)
        assert (source.records, source.index) == (folder / "train.rec", folder / "train.idx")
        assert source.property == folder / "property"
        assert [path.name for path in source.pairs] == ["agedb_30.bin", "lfw.bin"]

    def test_a_record_file_alone_is_sufficient(self, write_source):
        folder = write_source({0: 1})
        (folder / "train.rec").rename(folder / "test.rec")
        (folder / "property").unlink()
        source = find_source(folder / "test.rec")
        assert (source.index, source.property) == (None, None)

    def test_names_in_upper_case_are_found(self, write_source):
        folder = write_source({0: 1})
        (folder / "train.rec").rename(folder / "A.REC")
        (folder / "train.idx").rename(folder / "A.IDX")
        assert find_source(folder / "A.REC").index == folder / "A.IDX"

    def test_a_folder_without_records_is_refused_with_a_hint(self, tmp_path):
        with pytest.raises(UserError, match=r"no train\.rec in it; give a folder with train\.rec"):
            find_source(tmp_path)

    def test_a_missing_path_is_named(self, tmp_path):
        with pytest.raises(UserError, match="nowhere: it does not exist"):
            find_source(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", ["train.rec", "other.rec"])
    def test_a_record_file_that_is_a_directory_is_refused(self, tmp_path, name):
        (tmp_path / name).mkdir()
        given = tmp_path if name == "train.rec" else tmp_path / name
        with pytest.raises(UserError, match=f"{name} is a directory"):
            find_source(given)

    def test_the_image_size_is_in_the_property_file(self, mxnet_written):
        assert stated_image_size(find_source(mxnet_written / "scalar")) == (112, 112)

    @pytest.mark.parametrize("text", [b"", b"3,112", b"a,b,c", b"\xff" * 999])
    def test_a_property_file_that_is_something_else_is_refused(self, write_source, text):
        folder = write_source({0: 1})
        (folder / "property").write_bytes(text)
        with pytest.raises(UserError, match="is not 'identities,height,width'"):
            stated_image_size(find_source(folder))


class TestWriting:
    @pytest.mark.parametrize("pack", ["scalar", "array"])
    def test_the_layout_is_byte_for_byte_what_mxnet_writes(self, mxnet_written, tmp_path, pack):
        images = [(image.payload, image.label) for image in read(mxnet_written / pack)]
        write_layout(tmp_path, images, (112, 112), array_labels=pack == "array")
        for name in ("train.rec", "train.idx", "property"):
            assert (tmp_path / name).read_bytes() == (mxnet_written / pack / name).read_bytes()

    def test_labels_may_have_gaps(self, write_source):
        assert [image.label for image in read(write_source({3: 1, 900: 2}))] == [3, 900, 900]

    def test_images_of_an_identity_must_be_contiguous(self, tmp_path, noise_images):
        images = [(noise_images[0], label) for label in (0, 1, 0)]
        with pytest.raises(ValueError, match="identity 0 are not contiguous"):
            write_layout(tmp_path, images, (24, 20))
        assert not (tmp_path / "train.rec").exists()


@pytest.mark.parametrize("name", ["property", "train.idx"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("folder", "a directory"),
        ("pipe", "a named pipe"),
        ("lost", "a link to"),
        ("zero", "a device"),
    ],
)
def test_a_special_file_next_to_the_records_is_one_line(write_source, tmp_path, name, kind, said):
    source = write_source({0: 2, 1: 2})
    path = source / name
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "lost":
            path.symlink_to("nowhere")
        case "zero":
            path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=f"{name}: it is {said}"):
        convert(source, tmp_path / "a.lmdb")
