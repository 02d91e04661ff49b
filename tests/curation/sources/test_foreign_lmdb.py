import struct
from pathlib import Path

import lmdb
import pytest

from curation.conversion.convert import convert
from curation.environment import Environment
from curation.errors import UserError
from curation.inspection import inspect_path
from curation.sources.packed_values import image_and_label
from curation.sources.quarantine import read_quarantine
from curation.store import Store
from curation.verify import verify

IMAGE = b"\xff\xd8\xff" + bytes(300)


def write_lmdb(path: Path, entries: dict[bytes, bytes], subdir: bool = True) -> Path:
    with (
        lmdb.open(str(path), 1 << 26, subdir=subdir) as environment,
        environment.begin(write=True) as writing,
    ):
        for key, value in entries.items():
            writing.put(key, value)
    return path


def packed(image: bytes, label: int, feature: bytes = b"") -> bytes:
    """msgpack of (image, label), as written by its Python library."""
    if label < 128:
        number = bytes([label])
    else:
        number = b"\xcd" + struct.pack(">H", label) if label < 1 << 16 else b"\xce" + struct.pack(
            ">L", label
        )  # fmt: skip
    return (
        bytes([0x93 if feature else 0x92, 0xC5])
        + struct.pack(">H", len(image))
        + image
        + (feature + number)
    )


def msgpack(value: object) -> bytes:
    match value:
        case None | bool():
            return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
        case int():
            return bytes([value]) if 0 <= value < 128 else b"\xd3" + struct.pack(">q", value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case bytes():
            return b"\xc5" + struct.pack(">H", len(value)) + value
        case str():
            return b"\xd9" + struct.pack(">B", len(value)) + value.encode()
        case dict():
            inner = [each for item in value.items() for each in item]
            return bytes([0x80 | len(value)]) + b"".join(map(msgpack, inner))
        case list() | tuple():
            head = (
                bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc\0" + bytes([len(value)])
            )
            return head + b"".join(map(msgpack, value))
    raise TypeError(value)


def test_labels_in_the_list_may_be_names(tmp_path, noise_images):
    folder = write_lmdb(tmp_path / "set", {b"k%d" % i: noise_images[i] for i in range(3)})
    (folder / "labels.txt").write_text("k0 m.02\nk1 m.01\nk2 m.02\n")
    store = convert(folder, tmp_path / "a.lmdb")
    assert (store.source_names, store.labels.tolist()) == (("k0", "k2", "k1"), [0, 0, 1])


def test_values_that_share_their_bytes_are_damage(tmp_path, noise_images):
    image = noise_images[0] + bytes(1 << 20)
    folder = write_lmdb(tmp_path / "set", {b"k%d" % i: image[: 1 << 20 - i] for i in range(9)})
    places = list(Environment(folder)._all_places())
    data = bytearray((folder / "data.mdb").read_bytes())
    page_size = len(places[0][1])
    nodes = [page * page_size + place for page, _, place, _ in places]
    for node in nodes[1:]:  # all have the size and the pages of the first
        data[node : node + 4] = data[nodes[0] : nodes[0] + 4]
        data[node + 10 : node + 18] = data[nodes[0] + 10 : nodes[0] + 18]
    (folder / "data.mdb").write_bytes(data)
    with pytest.raises(UserError, match="its values overlap"):
        convert(folder, tmp_path / "a.lmdb", skip_bad=True)


LABELS = [5, 300, 70_000, 5, 300, 0, 127, 128, 65_535, 5, 1, 2]


def test_values_of_image_and_label_are_read(tmp_path, noise_images):
    entries = {b"%d" % i: packed(noise_images[i], label) for i, label in enumerate(LABELS)}
    folder = write_lmdb(tmp_path / "set", {**entries, b"__len__": b"\x0c", b"__keys__": b"\x90"})
    store = convert(folder, tmp_path / "a.lmdb")
    labels = store.source_labels_of(store.rows).tolist()
    assert dict(zip(store.source_names, labels, strict=True)) == {
        str(i): label for i, label in enumerate(LABELS)
    }
    numbers = [int(name) for name in store.source_names]
    assert [store.read(i) for i in range(12)] == [noise_images[i] for i in numbers]
    assert inspect_path(folder)["kind"] == "lmdb"
    assert verify(folder, decoding=True)["sound"]


def test_a_feature_between_image_and_label_is_ignored(noise_images):
    feature = b"\xc4\x04" + bytes(4)
    assert image_and_label(packed(noise_images[0], 300, feature)) == (noise_images[0], 300)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ((IMAGE, 300, "anna e"), 300),
        ((IMAGE, [0.5, -1.0, {"a": 7}], None, True, -1, b"\x05"), -1),
        ([IMAGE, "x" * 40, 1 << 40, 1.5, 2.5], 1 << 40),
        ((IMAGE,), -1),
        ({"image": IMAGE, "label": 70_000, "name": "anna"}, 70_000),
        ({"Label": 5, b"img": IMAGE, 3: 4}, 5),
        ({"label": "12", "jpg": IMAGE}, 12),
        ({"image": IMAGE, "age": 30}, -1),
    ],
)
def test_msgpack_of_an_image_and_one_label_is_read(value, label):
    assert image_and_label(msgpack(value)) == (IMAGE, label)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ((IMAGE, "anna"), "0 whole numbers beside the image"),
        ((IMAGE, 3, 4), "2 whole numbers beside the image"),
        ((IMAGE, -100), "the label is -100; allowed are whole numbers from 0 to"),
        ((5, IMAGE, 3, 4), "2 whole numbers beside"),
        ({"label": 5}, "neither a JPEG or PNG"),
        ({"label": None, "image": IMAGE}, "the label 'None' is not a whole number"),
        ([IMAGE] * 40, "neither a JPEG or PNG"),
    ],
)
def test_other_msgpack_is_refused_with_a_reason(value, reason):
    with pytest.raises(ValueError, match=reason):
        image_and_label(msgpack(value))


@pytest.mark.parametrize(
    "value", [b"\xdd" + b"\xff" * 4, b"\x92\xc6" + b"\xff" * 4, b"\x92\xc1\x01"]
)
def test_cut_msgpack_takes_no_memory_or_time(value):
    with pytest.raises(ValueError, match="neither a JPEG or PNG"):
        image_and_label(value)
    for end in range(len(whole := msgpack((IMAGE, [0.5] * 9, 300)))):
        with pytest.raises(ValueError, match="its value"):
            image_and_label(whole[:end])


def test_plain_images_have_labels_in_a_list_file(tmp_path, noise_images):
    entries = {b"p%d/0.jpg" % i: noise_images[i] for i in range(4)}
    folder = write_lmdb(tmp_path / "set", entries)
    assert convert(folder, tmp_path / "a.lmdb").unlabelled == 4
    (folder / "labels.txt").write_text("p0/0.jpg 7\np1/0.jpg 7\np3/0.jpg 2\n")
    store = convert(folder, tmp_path / "b.lmdb")
    assert store.source_labels.tolist() == [2, 7]
    assert store.source_names == ("p3/0.jpg", "p0/0.jpg", "p1/0.jpg", "p2/0.jpg")
    (folder / "labels.txt").write_text("p0/0.jpg 7 8\n")
    with pytest.raises(UserError, match=r"labels\.txt: line 1: .* is not KEY LABEL"):
        convert(folder, tmp_path / "c.lmdb")
    (folder / "more.csv").write_text("")
    with pytest.raises(UserError, match=r"several lists \(labels\.txt, more\.csv\)"):
        convert(folder, tmp_path / "c.lmdb")


@pytest.mark.parametrize("image", ["image", "img"])
def test_labels_beside_their_images(tmp_path, noise_images, image):
    entries = {b"%s-%09d" % (image.encode(), n): noise_images[n] for n in range(3)}
    labels = {b"label-%09d" % n: label for n, label in enumerate((b"anna", b"ben", b"anna\n"))}
    folder = write_lmdb(tmp_path / "set", {**entries, **labels, b"num-samples": b"3"})
    store = convert(folder, tmp_path / "a.lmdb")
    assert store.labels.tolist() == [0, 0, 1]
    assert [name[-1] for name in store.source_names] == ["0", "2", "1"]
    write_lmdb(folder, {b"label-000000007": b"carl"})
    with pytest.raises(UserError, match=r"1 of its labels \(label\.\.\.\) have no image"):
        convert(folder, tmp_path / "b.lmdb")


def test_metadata_are_no_images_and_images_no_metadata(tmp_path, noise_images):
    counts = dict.fromkeys((b"__len__", b"total_number", b"size", b"length"), b"2")
    images = {b"__a.jpg": noise_images[0], b"length_2.jpg": noise_images[1]}
    store = convert(write_lmdb(tmp_path / "set", counts | images), tmp_path / "a.lmdb")
    assert store.source_names == ("__a.jpg", "length_2.jpg")


def test_a_list_may_have_a_heading(tmp_path, noise_images):
    folder = write_lmdb(tmp_path / "set", {b"anna": noise_images[0], b"p/1.jpg": noise_images[1]})
    (folder / "list.csv").write_text("key,label\nanna,ben\np/1.jpg,ben\n")
    assert convert(folder, tmp_path / "a.lmdb").identities == 1
    (folder / "list.csv").write_text("anna ben\np/1.jpg ben\n")
    assert convert(folder, tmp_path / "b.lmdb").unlabelled == 0


def test_the_second_column_of_a_list_must_be_a_label(tmp_path, noise_images):
    folder = write_lmdb(tmp_path / "set", {b"anna": noise_images[0]})
    (folder / "list.csv").write_text("key,age\nanna,31\n")
    with pytest.raises(UserError, match=r"list\.csv: line 1: the column 'age' is not called label"):
        convert(folder, tmp_path / "a.lmdb")


def test_images_without_labels_are_doubted(tmp_path, noise_images):
    folder = write_lmdb(tmp_path / "set", {b"p0/0.jpg": noise_images[0]})
    (warning,) = inspect_path(folder)["warnings"]
    assert warning.endswith(f"lines KEY LABEL in {folder}/labels.txt")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x80\x04\x95pickle", "a pickle, which can run code.* as files IDENTITY"),
        (b"\x08\x03\x10\x70\x22\x01x\x28\x05", "a Datum of Caffe with raw pixels.*--encoded"),
        (b"\x22\x7fcut", "a damaged Datum"),
        (b"\x08" + b"\xff" * 11, "a damaged Datum"),
        (b"\x22\x01x\x3b", "a damaged Datum"),
    ],
    ids=["pickle", "raw-datum", "cut-datum", "long-number", "unknown-type"],
)
def test_values_of_other_libraries_are_named(tmp_path, noise_images, value, reason):
    folder = write_lmdb(tmp_path / "set", {b"0": value})
    with pytest.raises(UserError, match=f"its value is {reason}"):
        convert(folder, tmp_path / "a.lmdb")


@pytest.mark.parametrize(
    ("value", "what"),
    [(b"RIFF\x40\0\0\0WEBPVP8 ", r"an image \(WebP\)"), (b"\x1f\x8b\x08", "compressed with gzip")],
    ids=["webp", "gzip"],
)
def test_other_known_values_are_named(tmp_path, value, what):
    folder = write_lmdb(tmp_path / "set", {b"0": value})
    with pytest.raises(UserError, match=f"its value is {what}, neither a JPEG or PNG"):
        convert(folder, tmp_path / "a.lmdb")


@pytest.mark.parametrize("form", [">Q", "<Q", ">I", "<H"])
def test_keys_may_be_numbers_of_any_size(tmp_path, noise_images, form):
    """Those of eight bytes are also the keys of a store."""
    folder = write_lmdb(tmp_path / "set", {struct.pack(form, i): noise_images[i] for i in range(3)})
    assert len(convert(folder, tmp_path / "a.lmdb")) == 3


@pytest.mark.parametrize("name", ["set.lmdb", "set"])
def test_an_environment_may_be_a_single_file(tmp_path, noise_images, name):
    entries = {b"%d" % i: noise_images[i] for i in range(3)}
    file = tmp_path / "lmdb" / name
    file.parent.mkdir()
    write_lmdb(file, entries, subdir=False)
    assert convert(file, tmp_path / "a.lmdb").unlabelled == 3
    file.with_suffix(".txt").write_text("0 7\n1 7\n2 3\n")
    (file.parent / "other.txt").write_text("of something else")
    store = convert(file, tmp_path / "b.lmdb")
    assert dict(zip(store.source_names, store.labels, strict=True)) == {"0": 1, "1": 1, "2": 0}
    assert inspect_path(file)["kind"] == "lmdb"
    assert verify(file, decoding=True)["sound"]


def test_the_file_of_a_store_is_not_a_source(tmp_path, noise_images):
    folder = write_lmdb(tmp_path / "set", {b"a": noise_images[0]})
    store = convert(folder, tmp_path / "a.lmdb")
    with pytest.raises(UserError, match=r"data\.mdb"):
        convert(store.path / "data.mdb", tmp_path / "b.lmdb")
    assert len(convert(folder / "data.mdb", tmp_path / "b.lmdb")) == 1


@pytest.mark.parametrize(
    "value",
    [b"", b"x", b"\x80\x04\x95pickle", b"\x92", b"\x92\xc4", b"\x92\xc6\xff\xff\xff\xff",
     b"\x92\xc4\x01x", b"\x92\xc4\x01x\xa1y", b"\x92\x01\x02", b"\x91\xc4\x01x", bytes(40)],
)  # fmt: skip
def test_other_values_are_bad_records(tmp_path, noise_images, value):
    folder = write_lmdb(tmp_path / "set", {b"0": packed(noise_images[0], 1), b"1": value})
    with pytest.raises(UserError, match=r"data\.mdb: 1: "):
        convert(folder, tmp_path / "a.lmdb")
    assert len(convert(folder, tmp_path / "a.lmdb", skip_bad=True)) == 1


def test_stores_are_not_sources(store, tmp_path):
    assert inspect_path(store.path)["kind"] == "store"
    (store.path / "source.json").unlink()
    assert inspect_path(store.path)["kind"] == "store"
    assert verify(store.path)["sound"]
    assert Store(store.path).digest == store.digest


def test_keys_may_be_any_bytes(tmp_path, noise_images):
    entries = {struct.pack("<I", i << 7): noise_images[i] for i in range(2)}
    store = convert(write_lmdb(tmp_path / "set", entries), tmp_path / "a.lmdb")
    assert store.source_names == (r"\x00\x00\x00\x00", r"\x80\x00\x00\x00")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a 0\nz 1\ny 2\n", "no image has the key 'z' of .*, nor 1 more of its keys"),
        ("a 0\na 1\n", "line 2: the key 'a' occurs twice"),
    ],
    ids=["missing", "twice"],
)
def test_a_list_that_does_not_match_is_an_error(tmp_path, noise_images, text, reason):
    folder = write_lmdb(tmp_path / "set", {b"a": noise_images[0], b"b": noise_images[1]})
    (folder / "labels.txt").write_text(text)
    with pytest.raises(UserError, match=reason):
        convert(folder, tmp_path / "a.lmdb")


def test_a_damaged_environment_is_reported(tmp_path, noise_images):
    folder = write_lmdb(tmp_path / "set", {b"a": noise_images[0], b"b": noise_images[1]})
    data = folder / "data.mdb"
    data.write_bytes(data.read_bytes()[:9000])
    with pytest.raises(UserError, match=r"data\.mdb is truncated: it has 9000 bytes of"):
        convert(folder, tmp_path / "a.lmdb")


@pytest.mark.parametrize(
    ("data", "what"), [(b"", "empty"), (b"x" * 9000, "no LMDB file")], ids=["empty", "other"]
)
def test_a_file_merely_named_like_an_environment(tmp_path, data, what):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.mdb").write_bytes(data)
    with pytest.raises(UserError, match=f"a folder whose data[.]mdb is {what}"):
        convert(tmp_path / "set", tmp_path / "a.lmdb")


def test_named_databases_are_refused_by_name(tmp_path, noise_images):
    with lmdb.open(str(tmp_path / "set"), 1 << 26, max_dbs=1) as environment:
        faces = environment.open_db(b"faces")
        with environment.begin(write=True) as writing:
            writing.put(b"a", noise_images[0], db=faces)
    with pytest.raises(UserError, match="contains the named database b'faces'"):
        convert(tmp_path / "set", tmp_path / "a.lmdb")


def test_bad_keys_are_escaped_in_the_quarantine(tmp_path, noise_images):
    entries = {b"a": noise_images[0], b"\x1b[31m\0\n": b"no image"}
    folder = write_lmdb(tmp_path / "set", entries)
    store = convert(folder, tmp_path / "a.lmdb", skip_bad=True)
    (bad,) = read_quarantine(store.path)
    assert bad.reason.startswith(r"\x1b[31m\x00 : its value is neither")


@pytest.fixture(scope="module")
def datum() -> type:
    """Caffe's message as Protocol Buffers' own library writes it."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="datum.proto", package="caffe", syntax="proto2")
    message = file.message_type.add(name="Datum")
    kinds = {"channels": 5, "height": 5, "width": 5, "data": 12, "label": 5, "float_data": 2}
    for number, (name, kind) in enumerate([*kinds.items(), ("encoded", 8)], 1):
        label = 3 if name == "float_data" else 1
        message.field.add(name=name, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Datum"))


def test_image_files_in_datums_of_caffe_are_read(tmp_path, datum, noise_images):
    sizes = {"channels": 3, "height": 112, "width": 112}
    labels = [5, 300, -1, 70_000, 0]
    entries = {
        b"%08d_p/%d.jpg" % (i, i): datum(
            data=noise_images[i], label=label, encoded=True, **(sizes if i % 2 else {})
        ).SerializeToString()
        for i, label in enumerate(labels)
    }
    entries[b"00000009_p/9.jpg"] = datum(data=noise_images[9], encoded=True).SerializeToString()
    store = convert(write_lmdb(tmp_path / "set", entries), tmp_path / "a.lmdb")
    assert store.source_labels.tolist() == [0, 5, 300, 70_000]
    images = [int(name[7]) for name in store.source_names]
    assert images == [4, 0, 1, 3, 2, 9]
    assert [store.read(i) for i in range(6)] == [noise_images[i] for i in images]
    assert store.unlabelled == 2
