"""Recognition of a file's actual kind by its first bytes, for messages about wrong files.

Users pass what a download left: a web page, a pointer file instead of the file, an archive around
it, a data set of another library. All code that refuses a file uses this module, so that the
message names the kind and what helps.
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from curation.errors import UserError
from curation.files import open_regular


class FileKind(NamedTuple):
    """``what`` completes a sentence ("FILE is WHAT"), ``advice`` says what helps.

    ``is_data`` means that the advice is about data, which does not help where a network is needed.
    """

    name: str
    what: str
    advice: str
    is_text: bool = False
    is_data: bool = False

    def refusal(self, path: Path, wanted: str) -> UserError:
        """The error for passing ``path``, of this kind, instead of ``wanted``."""
        return UserError(f"{path} is {self.what}, not {wanted}; {self.advice}")

    @property
    def network_advice(self) -> str:
        """What helps if a network is expected."""
        return "give the file that holds the network" if self.is_data else self.advice


BEGINNING_BYTES = 4096
"""Number of bytes that ``kind_of`` needs, if the file has as many"""

_AGAIN = "download it again"
_AS_FILES = "write its images as files IDENTITY/*.jpg and give that folder"
_NO_DATA = "give the file that holds the data"
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def _compressed(name: str, command: str) -> FileKind:
    return FileKind(name, f"compressed with {name}", f"unpack it first: {command}")


def _archive(name: str, command: str) -> FileKind:
    what = f"a {name} archive"
    return FileKind(name, what, f"unpack it ({command}) and give its content")


def _data(name: str, what: str, advice: str = _NO_DATA, is_text: bool = False) -> FileKind:
    return FileKind(name, what, advice, is_text, is_data=True)


def _image(name: str) -> FileKind:
    return _data(f"image {name}", f"an image ({name})")


def _data_set(name: str, what: str, advice: str = _AS_FILES) -> FileKind:
    return _data(name, what, advice)


_TAR = _data(
    "tar",
    "a tar archive (WebDataset shards have this format)",
    "`curate convert` reads it if its name ends in .tar; otherwise unpack it (tar -xf FILE)",
)
_ZIP = _data(
    "zip",
    "a zip archive",
    "`curate convert` reads an archive of images whose name ends in .zip; otherwise unpack it "
    "(unzip FILE)",
)
_HTML = FileKind(
    "html",
    "a web page (a failed download, or a login page)",
    f"{_AGAIN}, and look at its size",
)
_LMDB = _data_set("lmdb", "an LMDB data file", "give its folder, as data.mdb in it")
_TORCH = FileKind("torch", "a PyTorch file", "give it where weights are expected")
_SIGNATURES = {
    b"version https://git-lfs.github.com/": FileKind(
        "git-lfs",
        "a Git LFS pointer (the file itself was not fetched)",
        "run `git lfs pull` where it was cloned",
    ),
    b"/annex/objects/": FileKind(
        "git-annex",
        "a git-annex pointer (the file itself was not fetched)",
        "run `git annex get` on it",
    ),
    b"\x1f\x8b": _compressed("gzip", "gunzip FILE, or tar -xzf FILE if it is an archive"),
    b"BZh": _compressed("bzip2", "bunzip2 FILE, or tar -xjf FILE if it is an archive"),
    b"\xfd7zXZ\0": _compressed("xz", "unxz FILE, or tar -xJf FILE if it is an archive"),
    b"\x28\xb5\x2f\xfd": _compressed("zstd", "unzstd FILE"),
    b"\x04\x22\x4d\x18": _compressed("lz4", "unlz4 FILE"),
    b"7z\xbc\xaf\x27\x1c": _archive("7z", "7z x FILE"),
    b"Rar!\x1a\x07": _archive("RAR", "unrar x FILE"),
    b"PAR1": _data_set(
        "parquet", "a Parquet table", "`curate convert` reads it if its name ends in .parquet"
    ),
    b"ARROW1": _data_set("arrow", "an Arrow table"),
    b"ORC": _data_set("orc", "an ORC table"),
    b"\x89HDF\r\n\x1a\n": _data_set("hdf5", "an HDF5 file"),
    b"MATLAB 5.0 MAT-file": _data_set("matlab", "a MATLAB file"),
    b"SQLite format 3\0": _data_set("sqlite", "an SQLite database"),
    b"\x93NUMPY": _data_set("numpy", "a saved numpy array (.npy)"),
    b"\x0a\x23\xd7\xce": _data(
        "recordio", "a RecordIO file", "`curate convert` reads it if its name ends in .rec"
    ),
    b"\xff\xd8\xff": _image("JPEG"),
    b"\x89PNG\r\n\x1a\n": _image("PNG"),
    b"GIF8": _image("GIF"),
    b"II*\0": _image("TIFF"),
    b"MM\0*": _image("TIFF"),
    b"\0\0\0\x0cjP  ": _image("JPEG 2000"),
    b"\0\x05\x16\x07": _data(
        "appledouble", "macOS metadata of a file (._NAME), not the file itself"
    ),
    b"\0\0\0\x01Bud1": _data("ds-store", "a .DS_Store of macOS"),
    b"%PDF": _data("pdf", "a PDF document"),
    b"\x7fELF": _data("elf", "a program or library (ELF)"),
    b"MZ": _data("exe", "a program of Windows"),
    b"GGUF": _data("gguf", "a GGUF file of weights"),
    b"Salted__": FileKind("openssl", "encrypted by OpenSSL", "decrypt it first"),
    # MXNet's ndarray list; the second word is reserved.
    struct.pack("<QQ", 0x112, 0): FileKind(
        "mxnet-params", "a file of MXNet parameters (.params)", "convert the network to ONNX"
    ),
    # torch.save before 1.6: a pickle that starts with its magic number.
    bytes.fromhex("80028a0a6cfc9c46f9206aa85019"): _TORCH,
}


def detect_kind(path: Path) -> FileKind | None:
    """The kind of the file or folder ``path``; None if it is unknown.

    Reads at most 4 KiB, and only from regular files.
    """
    path = Path(path)
    try:
        if not path.exists():
            return _missing(path)
        if path.is_dir():
            return _folder(path)
        with open_regular(path) as file:
            return kind_of(file.read(BEGINNING_BYTES))
    except (OSError, UserError):
        return None


def wrong_kind(path: Path, wanted: str) -> UserError | None:
    """The error that ``path`` has a known kind other than ``wanted``; None if it is unknown."""
    kind = detect_kind(path)
    return None if kind is None else kind.refusal(path, wanted)


def kind_of(data: bytes) -> FileKind | None:
    """The kind of a file from its first 4 KiB, or all of a shorter one."""
    for begins, kind in _SIGNATURES.items():
        if data.startswith(begins):
            return kind
    return next(filter(None, (find(data) for find in _FINDERS)), None)


def _missing(path: Path) -> FileKind | None:
    """A broken link, such as git-annex's for content that was not fetched."""
    if not path.is_symlink():
        return None
    target = str(path.readlink())
    if "annex/objects/" in target:
        return _SIGNATURES[b"/annex/objects/"]
    return FileKind("link", f"a link to {target}, which does not exist", "copy the file itself")


def _folder(path: Path) -> FileKind | None:
    if (path / "data.mdb").exists() and (path / "source.json").exists():
        return _data_set("store", "a store already", "look at it with `curate inspect`")
    if (path / "view.json").exists():
        return _data_set("view", "a view already", "look at it with `curate inspect`")
    if (path / "data.mdb").exists():
        inner = detect_kind(path / "data.mdb")
        if inner == _LMDB:
            return _LMDB._replace(what="a folder with another kind of LMDB")
        what = "no LMDB file" if inner is None or inner.is_text else inner.what
        return FileKind(
            "damaged", f"a folder whose data.mdb is {what}", f"{_AGAIN}, or copy it again"
        )
    if (path / "CURRENT").exists() and any(path.glob("MANIFEST-*")):
        return _data_set("leveldb", "a LevelDB folder")
    if (path / "dataset_info.json").exists() and any(path.glob("*.arrow")):
        return _data_set("datasets", "a data set of Hugging Face's datasets (Arrow)")
    return None


def _nothing(data: bytes) -> FileKind | None:
    if data.strip(b"\0"):
        return None
    what = "a file of zero bytes (a download or copy that failed)" if data else "empty"
    return FileKind("zeros" if data else "empty", what, f"{_AGAIN}, or copy it again")


def _page(data: bytes) -> FileKind | None:
    """HTML and XML, which servers send instead of the file."""
    start = _without_mark(data).lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<script", b"<body", b"<!--")):
        return _HTML
    if start.startswith(b"<?xml"):
        return FileKind("xml", "an XML document (often a server's error)", _AGAIN)
    return None


def _zip(data: bytes) -> FileKind | None:
    """A zip archive; those of numpy and PyTorch are recognised by their first member's name."""
    if not data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    name = data[30 : 30 + int.from_bytes(data[26:28], "little")]
    of_torch = (b"/data.pkl", b"/version", b"/.format_version", b"/data/0")
    if name.endswith(of_torch) or b"/code/" in name:
        return _TORCH
    if name.endswith(b".npy"):
        return _data_set("npz", "saved numpy arrays (.npz)")
    return _ZIP


def _tar(data: bytes) -> FileKind | None:
    """A tar archive by the checksum of its first header, present in the oldest format too."""
    words = data[148:156].strip(b" \0")
    if len(data) < 512 or not words or words.strip(b"01234567"):
        return None
    total = sum(data[:148]) + sum(data[156:512]) + 8 * ord(" ")
    return _TAR if int(words, 8) == total else None


def _lmdb(data: bytes) -> FileKind | None:
    return _LMDB if data[16:20] == struct.pack("<I", 0xBEEFC0DE) else None


def _tensorflow_records(data: bytes) -> FileKind | None:
    """TFRecord: each eight-byte length is followed by its masked CRC-32C."""
    if len(data) < 12:
        return None
    checksum = _crc32c(data[:8])
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    is_one = masked == int.from_bytes(data[8:12], "little")
    return _data_set("tfrecord", "a TFRecord file") if is_one else None


def _crc32c(data: bytes) -> int:
    """Castagnoli's CRC, bit by bit, because only eight bytes are checked."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _media(data: bytes) -> FileKind | None:
    """Images and videos whose type follows a length field."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _image("WebP")
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("ascii", "replace")
        is_image = brand in ("heic", "heix", "mif1", "avif", "avis")
        return _image(brand) if is_image else _data("film", "a film")
    # A file header of 14 bytes with reserved words 0, then the bitmap's header.
    if (
        data[:2] == b"BM"
        and data[6:10] == bytes(4)
        and data[14:18] in (b"\x28\0\0\0", b"\x7c\0\0\0")
    ):
        return _image("BMP")
    return None


def _weights(data: bytes) -> FileKind | None:
    advice = "give it where weights are expected"
    if data[8:10] == b'{"' and 2 <= int.from_bytes(data[:8], "little") <= 100 << 20:
        return FileKind("safetensors", "a safetensors file of weights", advice)
    if data[4:8] == b"TFL3":
        return FileKind("tflite", "a TensorFlow Lite model", "convert the network to ONNX")
    # ModelProto: the version (field 1, a varint), then the producer (field 2) or the graph (7).
    if data[:1] == b"\x08" and data[1:2] < b"\x40" and data[2:3] in (b"\x12", b"\x3a"):
        return FileKind("onnx", "an ONNX model", advice)
    return None


def _pickle(data: bytes) -> FileKind | None:
    binary = data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5")
    text = data.startswith((b"(lp", b"(dp", b"((lp", b"(((lp", b"ccopy_reg\n", b"cnumpy"))
    if not binary and not text:
        return None
    return _data("pickle", "a pickle", "verification sets (.bin) are pickles: see `curate inspect`")


def _text(data: bytes) -> FileKind | None:
    """Text without control characters; JSON and CSV by their start."""
    text = _decoded(data)
    if text is None or any(character < " " and character not in "\t\r\n\f" for character in text):
        return None
    first = text.lstrip().partition("\n")[0]
    if re.match(r"""[{[]\s*(["{[\d]|$)""", first):
        return _data("json", "a JSON file", is_text=True)
    advice = "a list of images is named NAME.lst, .txt, .tsv or .csv"
    if "," in first:
        return _data("csv", "a CSV file", advice, is_text=True)
    return _data("text", "a text file", advice, is_text=True)


def _decoded(data: bytes) -> str | None:
    encoding = "utf-16" if data.startswith(_MARKS[1:]) else "utf-8-sig"
    for cut in range(4):  # the last character may be incomplete
        try:
            return data[: len(data) - cut].decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def _without_mark(data: bytes) -> bytes:
    """The ASCII characters of the text, without a byte-order mark; also for UTF-16."""
    text = _decoded(data) if data.startswith(_MARKS) else None
    return data if text is None else text.encode()


_FINDERS: tuple[Callable[[bytes], FileKind | None], ...] = (
    _nothing,
    _page,
    _zip,
    _tar,
    _lmdb,
    _tensorflow_records,
    _media,
    _weights,
    _pickle,
    _text,
)
