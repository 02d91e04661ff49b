import io
import os
import pickle
import pickletools
import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import plain_pickle
from curation.errors import UserError
from curation.pairs import read_pairs, write_pairs
from tests.memory import traced_memory


@pytest.fixture
def plain(noise_images):
    return noise_images[:6], [True, False, True]


def python_2_pickle(images, same):
    """The output of Python 2's cPickle at protocol 2, where bytes are BINSTRING."""
    text = b"".join(b"T" + struct.pack("<i", len(image)) + image for image in images)
    booleans = b"".join(b"\x88" if value else b"\x89" for value in same)
    return b"\x80\x02](" + text + b"e](" + booleans + b"e\x86."


def test_sets_pickled_by_python_2_and_3_are_equal(mxnet_written):
    old, new = (read_pairs(mxnet_written / f"pairs_{version}.bin") for version in ("py2", "py3"))
    assert old.images == new.images
    assert old.same.tolist() == new.same.tolist() == [True, False, True]
    assert (old.name, new.name) == ("pairs_py2", "pairs_py3")
    assert old.digest != new.digest


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("container", [list, tuple])
def test_every_pickle_protocol_is_read(tmp_path, plain, protocol, container):
    content = tuple(container(part) for part in plain)
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps(content, protocol))
    pairs = read_pairs(tmp_path / "lfw.bin")
    assert (pairs.images, pairs.same.tolist()) == plain
    assert pairs.same.dtype == np.bool_


def test_python_2_strings_are_bytes(tmp_path, plain):
    (tmp_path / "lfw.bin").write_bytes(python_2_pickle(*plain))
    assert read_pairs(tmp_path / "lfw.bin").images == plain[0]


def test_a_written_set_is_read_back(tmp_path, plain):
    write_pairs(tmp_path / "lfw.bin", *plain)
    pairs = read_pairs(tmp_path / "lfw.bin")
    assert (pairs.images, pairs.same.tolist(), len(pairs)) == (*plain, 3)
    assert list(tmp_path.iterdir()) == [tmp_path / "lfw.bin"]


def test_writing_requires_two_images_per_pair(tmp_path, plain):
    with pytest.raises(ValueError, match="5 images"):
        write_pairs(tmp_path / "lfw.bin", plain[0][:5], plain[1])


def column(image):
    """The output of ``cv2.imencode`` before OpenCV 4.5."""
    return np.frombuffer(image, np.uint8).copy().reshape(-1, 1)


def read_only(image):
    return np.frombuffer(image, np.uint8)


def row(image):
    return np.frombuffer(image, np.uint8).copy()[None]


def strided(image):
    return np.repeat(np.frombuffer(image, np.uint8), 2)[::2]


def object_array(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def of_numpy_1(data):
    """The pickle as written by numpy 1, whose modules had other names."""
    if data[:2] >= b"\x80\x04":
        data = data[:2] + data[11:]  # without the frame, whose length changes
        return re.sub(rb"\x8c(.)numpy\._core\.", _shorter, data, flags=re.DOTALL)
    return data.replace(b"numpy._core.", b"numpy.core.")


def _shorter(found):
    return b"\x8c" + bytes([found[1][0] - 1]) + b"numpy.core."


class TestNumpy:
    """Sets made by insightface's recipe and its descendants contain numpy arrays."""

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("image", [column, read_only, row, strided, bytearray])
    @pytest.mark.parametrize("version", [lambda data: data, of_numpy_1], ids=["2", "1"])
    def test_images_as_arrays_are_read(self, tmp_path, plain, protocol, image, version):
        content = [image(data) for data in plain[0]], [np.bool_(value) for value in plain[1]]
        (tmp_path / "lfw.bin").write_bytes(version(pickle.dumps(content, protocol)))
        pairs = read_pairs(tmp_path / "lfw.bin")
        assert (pairs.images, pairs.same.tolist()) == plain

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize(
        "same",
        [
            np.array,
            lambda same: np.array(same, np.int64),
            lambda same: np.array(same, ">i4"),
            lambda same: np.array(same, np.float32),
            lambda same: np.array(same)[:, None],
            lambda same: [np.int64(value) for value in same],
            lambda same: [float(value) for value in same],
            lambda same: tuple(int(value) for value in same),
            object_array,
        ],
    )
    def test_booleans_of_any_type_are_read(self, tmp_path, plain, protocol, same):
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps((plain[0], same(plain[1])), protocol))
        pairs = read_pairs(tmp_path / "lfw.bin")
        assert pairs.same.tolist() == plain[1]

    def test_an_array_of_objects_is_a_list(self, tmp_path, plain):
        images = object_array([column(image) for image in plain[0]])
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps((images, np.array(plain[1]))))
        assert read_pairs(tmp_path / "lfw.bin").images == plain[0]

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_an_array_of_bytes_is_a_list(self, tmp_path, plain, protocol):
        content = np.array(plain[0]), np.array(plain[1])
        assert content[0].dtype.kind == "S"
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps(content, protocol))
        assert read_pairs(tmp_path / "lfw.bin").images == plain[0]

    def test_python_2_wrote_arrays_with_text_for_bytes(self, tmp_path, plain):
        written = python_2_arrays(*plain)
        (tmp_path / "lfw.bin").write_bytes(written)
        pairs = read_pairs(tmp_path / "lfw.bin")
        assert (pairs.images, pairs.same.tolist()) == plain

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (lambda images, same: ([column(i).astype("u2") for i in images], same), "array u2 of"),
            (lambda images, same: ([np.zeros((4, 4, 3), "u1")] * 6, same), "array u1 of 4x4x3"),
            (lambda images, same: (np.zeros((6, 4, 4), "u1"), same), "must be a list of image"),
            (lambda images, same: (images, np.array([0, 1, 2])), "same must be a list of bool"),
            (lambda images, same: (images, np.array([0.0, np.nan, 1])), "same must be a list"),
            (lambda images, same: (images, np.array(["a", "b", "c"])), "refused.*type 'U1'"),
            (lambda images, same: (images, np.array([1j, 0, 1])), "refused.*type 'c16'"),
            (lambda images, same: (images, [column(b"ab")] * 3), "same must be a list"),
            (lambda images, same: (images, [np.datetime64("2020")] * 3), "refused"),
            (lambda images, same: ([column(b"")] * 6, same), "array u1 of 0x1"),
        ],
    )
    def test_other_arrays_are_named(self, tmp_path, plain, content, complaint):
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps(content(*plain)))
        with pytest.raises(UserError, match=complaint):
            read_pairs(tmp_path / "lfw.bin")

    @pytest.mark.parametrize(
        "name",
        ["numpy fromfile", "numpy memmap", "numpy.core.multiarray fromstring", "numpy matrix"],
    )
    def test_no_other_name_of_numpy_is_allowed(self, tmp_path, name):
        program = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\nX\x01\x00\x00\x00x\x85R."
        (tmp_path / "lfw.bin").write_bytes(program)
        with pytest.raises(UserError, match=r"lfw\.bin is refused.*could run code"):
            read_pairs(tmp_path / "lfw.bin")

    @pytest.mark.parametrize("kind", [b"I", b"L", b"F"])
    def test_a_number_of_thousands_of_digits_is_one_line(self, tmp_path, kind):
        (tmp_path / "lfw.bin").write_bytes(b"\x80\x02" + kind + b"9" * 6000 + b"\n.")
        with pytest.raises(UserError, match=r"is not a verification set: .*download") as refused:
            read_pairs(tmp_path / "lfw.bin")
        assert len(str(refused.value).removeprefix(str(tmp_path))) < 300
        assert "sys." not in str(refused.value)

    @pytest.mark.parametrize(
        "state",
        [
            b"(K\x01J\xff\xff\xff\xff\x85%b\x89C\x01xt",
            b"(K\x01\x8a\x08\0\0\0\0\0\0\0\x7f\x85%b\x89C\x01xt",
            b"(K\x01K\x05\x85%b\x89C\x01xt",
            b"(K\x01K\x01\x85N\x89C\x01xt",
            b"(K\x01NNNNt",
            b")",
            b"N",
        ],
        ids=["negative", "huge", "long", "no type", "no shape", "no state", "None"],
    )
    def test_an_array_must_have_its_stated_size(self, tmp_path, state):
        kind = b"cnumpy\ndtype\nX\x02\0\0\0u1K\0K\x01\x87R"
        start = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
        program = start + state.replace(b"%b", kind) + b"b."
        (tmp_path / "lfw.bin").write_bytes(program)
        with pytest.raises(UserError, match=r"lfw\.bin is (refused|not a verification set)"):
            read_pairs(tmp_path / "lfw.bin")


def python_2_arrays(images, same):
    """The output of Python 2's cPickle and numpy 1 at protocol 2, following their
    reduce functions.
    """

    def text(data):
        return b"T" + struct.pack("<i", len(data)) + data

    kind = b"cnumpy\ndtype\n(%sK\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    byte, boolean = (kind % b"U\x02%s" % code for code in (b"u1", b"b1"))
    arrays = b"".join(
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        + (b"(K\x01(J%stK" % struct.pack("<i", len(image))).removesuffix(b"K")
        + (byte + b"I00\n" + text(image) + b"tb")
        for image in images
    )
    scalars = b"".join(
        b"cnumpy.core.multiarray\nscalar\n(" + boolean + b"U\x01%ctR" % value for value in same
    )
    return b"\x80\x02](" + arrays + b"e](" + scalars + b"e\x86."


@pytest.mark.parametrize("code", [b"]", b"N", b"N\x85", b")", b"(l", b"K\x01", b"h\x00"])
def test_a_file_of_opcodes_is_refused_before_it_is_read(tmp_path, code):
    beginning = b"\x80\x02]q\x00"
    (tmp_path / "lfw.bin").write_bytes(beginning + code * (1_000_000 // len(code)) + b".")
    with traced_memory() as memory, pytest.raises(UserError, match=r"refused.*more than"):
        read_pairs(tmp_path / "lfw.bin")
    assert memory.peak < 8 << 20


class Harmful:
    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


def global_opcode(module, name):
    return b"\x80\x02c" + f"{module}\n{name}\n".encode()


class TestHarmfulPickles:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_a_call_is_refused_and_not_executed(self, tmp_path, plain, protocol):
        trace = tmp_path / "trace"
        content = (plain[0], [Harmful(os.mkdir, str(trace)), *plain[1]])
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(UserError, match=r"lfw\.bin is refused"):
            read_pairs(tmp_path / "lfw.bin")
        assert not trace.exists()

    @pytest.mark.parametrize(
        "data",
        [
            global_opcode("posix", "system") + b"X\x04\x00\x00\x00true\x85R.",
            global_opcode("builtins", "eval") + b"X\x01\x00\x00\x001\x85R.",
            global_opcode("_codecs", "decode") + b"X\x01\x00\x00\x001\x85R.",
            b"(S'true'\nios\nsystem\n.",
            b"(cos\nsystem\nS'true'\no.",
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
            b"\x80\x02cnumpy\nload\n.",
            b"Pstranger\n.",
            b"\x80\x02\x82\x01.",
            b"\x80\x05\x97.",
        ],
        ids=[
            "GLOBAL",
            "eval",
            "decode",
            "INST",
            "OBJ",
            "STACK",
            "numpy",
            "PERSID",
            "EXT1",
            "BUFFER",
        ],
    )
    def test_pickles_that_name_or_create_objects_are_refused(self, tmp_path, data):
        (tmp_path / "lfw.bin").write_bytes(data)
        with pytest.raises(UserError, match="refused"):
            read_pairs(tmp_path / "lfw.bin")

    def test_only_latin1_encoding_is_allowed(self, tmp_path):
        call = b"\x8c\x07_codecs\x8c\x06encode\x93\x8c\x04text\x8c\x03hex\x86R."
        (tmp_path / "lfw.bin").write_bytes(b"\x80\x04" + call)
        with pytest.raises(UserError, match="other than latin1"):
            read_pairs(tmp_path / "lfw.bin")

    @pytest.mark.parametrize(
        "data",
        [
            b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
            b"\x80\x04B" + struct.pack("<I", (1 << 32) - 1) + b"abc.",
            b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"].",
            b"\x80\x02T" + struct.pack("<i", -5) + b"abc.",
            b"\x80\x04]r" + struct.pack("<I", (1 << 32) - 1) + b".",
            b"]p4294967295\n.",
        ],
        ids=["BINBYTES8", "BINBYTES", "FRAME", "BINSTRING", "LONG_BINPUT", "PUT"],
    )
    def test_a_short_file_cannot_allocate_much_memory(self, tmp_path, data):
        (tmp_path / "lfw.bin").write_bytes(data)
        with pytest.raises(UserError, match=r"lfw\.bin"):
            read_pairs(tmp_path / "lfw.bin")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            (b"X%s" + b"a" * 30, "a text of more than 16 bytes"),
            (b"\x8d%s\0\0\0\0" + b"a" * 30, "a text of more than 16 bytes"),
            (b"V" + b"a" * 30 + b"\n", "a text of more than 16 bytes"),
            (b"X\4\0\0\0" + "\U0001f600".encode(), "letters beyond Latin-1"),
            (b"V\\u0100\n", "letters beyond Latin-1"),
        ],
        ids=["BINUNICODE", "BINUNICODE8", "UNICODE", "four bytes each", "two bytes each"],
    )
    def test_texts_take_no_more_memory_than_images(self, tmp_path, monkeypatch, text, complaint):
        monkeypatch.setattr(plain_pickle, "_LONGEST_TEXT", 16)
        text = text.replace(b"%s", struct.pack("<I", 30))
        (tmp_path / "lfw.bin").write_bytes(b"\x80\x04" + text + b".")
        with pytest.raises(UserError, match=complaint):
            read_pairs(tmp_path / "lfw.bin")

    def test_repeated_references_are_not_copied_each_time(self, tmp_path):
        text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x01"
        code = global_opcode("_codecs", "encode") + b"q\0" + text + b"X\6\0\0\0latin1q\x02000"
        calls = b"](" + b"h\0h\1h\2\x86R" * 100 + b"e](\x88e\x86."
        (tmp_path / "lfw.bin").write_bytes(b"\x80\x02" + code + calls)
        with (
            traced_memory() as memory,
            pytest.raises(UserError, match="it copies the same bytes repeatedly"),
        ):
            read_pairs(tmp_path / "lfw.bin")
        assert memory.peak < 20 << 20

    def test_a_repeated_bytearray_is_one_image_file(self, tmp_path, noise_images):
        image = bytearray(noise_images[0])
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps(([image] * 40, [True] * 20), 5))
        images = read_pairs(tmp_path / "lfw.bin").images
        assert images == [noise_images[0]] * 40
        assert len(set(map(id, images))) == 1

    def test_deep_nesting_is_an_error(self, tmp_path):
        (tmp_path / "lfw.bin").write_bytes(b"]" * 200_000 + b"a" * 199_999 + b".")
        with pytest.raises(UserError, match="more than 16 lists"):
            read_pairs(tmp_path / "lfw.bin")

    def test_a_list_containing_itself_is_an_error(self, tmp_path):
        endless: list = []
        endless += [endless, endless]
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps(endless))
        with pytest.raises(UserError, match="not a verification set"):
            read_pairs(tmp_path / "lfw.bin")

    def test_a_file_of_more_than_a_gigabyte_is_not_read(self, tmp_path):
        with (tmp_path / "lfw.bin").open("wb") as file:
            file.truncate((1 << 30) + 1)
        with pytest.raises(UserError, match="at most"):
            read_pairs(tmp_path / "lfw.bin")

    @given(st.data())
    def test_any_mutation_of_a_set_is_read_or_refused(self, tmp_path_factory, mxnet_written, data):
        content = bytearray((mxnet_written / "pairs_py2.bin").read_bytes())
        positions = st.integers(0, 60) | st.integers(len(content) - 30, len(content) - 1)
        for position, value in data.draw(st.lists(st.tuples(positions, st.integers(0, 255)))):
            content[position] = value
        path = tmp_path_factory.mktemp("pairs") / "a.bin"
        path.write_bytes(content)
        try:
            outcome = len(read_pairs(path))
        except UserError:
            outcome = 3
        assert outcome == 3

    @given(st.lists(st.sampled_from([opcode.code for opcode in pickletools.opcodes]), max_size=40))
    def test_any_program_is_refused_or_read(self, tmp_path_factory, opcodes):
        path = tmp_path_factory.mktemp("pairs") / "a.bin"
        path.write_bytes("".join(opcodes).encode("latin1") + b".")
        with pytest.raises(UserError):
            read_pairs(path)


class TestWrongContent:
    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda images, same: images, "not \\(images, same\\)"),
            (lambda images, same: (images, same, 3), "not \\(images, same\\)"),
            (lambda images, same: (images, None), "same must be a list of booleans"),
            (lambda images, same: (3, same), "images must be a list"),
            (lambda images, same: ([], []), "0 images"),
            (lambda images, same: (images[:5], same), "5 images, but two are needed"),
            (lambda images, same: (images, ["yes", "no", "yes"]), "must be a list of booleans"),
            (lambda images, same: (images, [0, 1, 2]), "must be a list of booleans"),
            (lambda images, same: ([*images[:5], "text"], same), "image 5 is a str"),
            (
                lambda images, same: ([*images[:5], b"text"], same),
                "image 5 is neither JPEG",
            ),
            (lambda images, same: ([*images[:5], images[5][:12]], same), "image 5 is damaged"),
        ],
    )
    def test_each_is_named(self, tmp_path, plain, change, complaint):
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps(change(*plain)))
        with pytest.raises(UserError, match=complaint):
            read_pairs(tmp_path / "lfw.bin")

    def test_images_must_have_one_size(self, tmp_path, plain, mxnet_written):
        other = read_pairs(mxnet_written / "pairs_py3.bin").images[0]
        write_pairs(tmp_path / "lfw.bin", [*plain[0][:5], other], plain[1])
        with pytest.raises(UserError, match="image 5 has 112x112 pixels, the first 24x20"):
            read_pairs(tmp_path / "lfw.bin")

    @pytest.mark.parametrize("data", [b"", b"not a pickle", b"\x80\x04", b"\xff" * 50])
    def test_a_file_that_is_not_a_pickle_is_refused(self, tmp_path, data):
        (tmp_path / "lfw.bin").write_bytes(data)
        with pytest.raises(UserError, match=r"lfw\.bin"):
            read_pairs(tmp_path / "lfw.bin")

    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
    def test_a_truncated_set_is_refused(self, tmp_path, plain, kept):
        buffer = io.BytesIO()
        pickle.dump(plain, buffer)
        (tmp_path / "lfw.bin").write_bytes(buffer.getvalue()[: int(kept * buffer.tell())])
        with pytest.raises(UserError, match="not a verification set"):
            read_pairs(tmp_path / "lfw.bin")

    def test_a_missing_file_or_a_directory_is_named(self, tmp_path):
        for path in (tmp_path, tmp_path / "lfw.bin"):
            with pytest.raises(
                UserError, match=r": it is a directory|: cannot read it: No such file"
            ):
                read_pairs(path)


class TestArraysOfMany:
    """A few bytes of an array are one item each: they are counted before they are split."""

    @pytest.mark.parametrize(
        "content",
        [
            (np.zeros(1 << 26, "S1"), [True]),
            ([b"", b""], np.zeros(1 << 26, bool)),
            ([b"", b""], np.zeros(1 << 23, "f8")),
        ],
        ids=["bytes", "booleans", "numbers"],
    )
    def test_more_items_than_any_set_has_are_refused(self, tmp_path, content):
        (tmp_path / "a.bin").write_bytes(pickle.dumps(content, 4))
        with (
            traced_memory() as memory,
            pytest.raises(UserError, match=r"has an array of [\d,]+ items; at most 1,048,576"),
        ):
            read_pairs(tmp_path / "a.bin")
        assert memory.peak < 3 * (tmp_path / "a.bin").stat().st_size

    @pytest.mark.parametrize(
        "same",
        [
            [1 << 2000],
            [-(1 << 2000)],
            [float("nan")],
            [np.bytes_(b"x")],
            [np.bytes_(b"1")],
            [np.array([True])],
            np.array([b"1"]),
            [None],
            ["1"],
        ],
        ids=repr,
    )
    def test_labels_other_than_0_and_1_are_one_line(self, tmp_path, plain, same):
        (tmp_path / "a.bin").write_bytes(pickle.dumps((plain[0][:2], same), 4))
        with pytest.raises(
            UserError,
            match=r"a\.bin is not a verification set: same must be a "
            r"list",
        ):
            read_pairs(tmp_path / "a.bin")
