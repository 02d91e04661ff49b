"""``SHA256SUMS`` in the format of coreutils: written for a folder, checked before it is read.

A bundle may come from anywhere, so its list is not trusted either: the list must have exactly the
expected names, links are refused, and sizes are bounded.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from curation.errors import UserError
from curation.file_kinds import BEGINNING_BYTES, kind_of
from curation.files import file_digest, read_whole, regular_file_size

SUMS_NAME = "SHA256SUMS"
SIGNATURE_NAME = "SHA256SUMS.sig"
"""The optional signature of the list; see `distill.export.signatures`"""
MAXIMUM_SUMS_BYTES = 2**16
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([!-~](?:[ -~]*[!-~])?)")


def write_sums(folder: Path) -> None:
    """List every other file below ``folder``, sorted by name. Signatures cover this list."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    left_out = (folder / SUMS_NAME, folder / SIGNATURE_NAME)
    files = [path for path in files if path not in left_out]
    lines = [f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS_NAME).write_text("".join(lines))


def verify_sums(folder: Path, files: Mapping[str, int]) -> None:
    """Check that the list has exactly ``files``, and that they match it.

    ``files`` maps names to the largest size in bytes. Raises `UserError` for a missing, malformed
    or truncated list, a name outside the folder, a link, and a file that is missing, too large or
    different.
    """
    sums = read_sums(folder)
    check_names(folder, sums, files)
    for name, most in files.items():
        _verify(folder, sums, name, most)


def check_names(folder: Path, sums: Mapping[str, str], files: Iterable[str]) -> None:
    """Raise ``UserError`` unless the checksums of ``folder`` are those of ``files``."""
    for name in files:
        checksum_of(folder, sums, name)
    if others := sorted({*sums} - {*files}):
        raise UserError(
            f"{folder / SUMS_NAME}: {others[0]!r:.80} is not a file of a bundle; refused"
        )


def checksum_of(folder: Path, sums: Mapping[str, str], name: str) -> str:
    """The SHA-256 of a file in the ``sums`` of ``folder``; ``UserError`` if they lack it."""
    if name not in sums:
        raise UserError(
            f"{folder}: {SUMS_NAME} does not list {name}; not a whole bundle; fetch it again"
        )
    return sums[name]


def read_verified(folder: Path, name: str, most: int) -> bytes:
    """Read a listed file of at most ``most`` bytes; raises `UserError` like ``verify_sums``."""
    _verify(folder, read_sums(folder), name, most)
    return read_whole(folder / name, most)


def _verify(folder: Path, sums: Mapping[str, str], name: str, most: int) -> None:
    wanted = checksum_of(folder, sums, name)
    path = _inside(folder, name)
    size = regular_file_size(path)
    if size > most:
        raise UserError(f"{path}: {size:,} bytes; this file of a bundle has {most:,} at most")
    if file_digest(path) != wanted:
        raise UserError(
            f"{path}: its SHA-256 differs from that in {SUMS_NAME}; the bundle was changed or "
            f"damaged in transit; fetch it again"
        )


def read_sums(folder: Path) -> dict[str, str]:
    """The checksums of a folder by file name; raises the errors of ``verify_sums``."""
    path = folder / SUMS_NAME
    if leads_out(folder, path):
        raise UserError(f"{path}: a link, which a bundle cannot have; fetch it again")
    if not path.is_file():
        wrong = f"not a bundle (it has no {SUMS_NAME})" if folder.is_dir() else "no such folder"
        raise UserError(f"{folder}: {wrong}; give a bundle's folder: `distill pull JOB` writes one")
    return parse_sums(path, read_whole(path, MAXIMUM_SUMS_BYTES))


def parse_sums(path: Path, content: bytes) -> dict[str, str]:
    """The checksums in the ``content`` of the list ``path``, by file name.

    Raises the errors of ``verify_sums``; they say which other kind of file it is.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in sums:
            kind = kind_of(content[:BEGINNING_BYTES])
            if kind is not None and not kind.is_text:
                raise UserError(
                    f"{path} is {kind.what}, not the checksums of a bundle; give the folder of a "
                    "bundle, or the page of a job"
                )
            raise UserError(
                f"{path}, line {number}: {line!r:.80} is not a new line `SHA256  NAME`, as in the "
                "checksums of a bundle; fetch the bundle again"
            )
        _refuse_outside(path, match[2])
        sums[match[2]] = match[1]
    return sums


def leads_out(folder: Path, path: Path) -> bool:
    """Whether a path in the bundle is a forbidden link.

    In a Hugging Face cache, ``snapshots/REVISION/NAME`` may link to a file in its folder ``blobs``.
    """
    if not path.is_symlink():
        return False
    snapshots = folder.absolute().parent
    blobs = snapshots.parent / "blobs"
    return snapshots.name != "snapshots" or path.resolve().parent != blobs.resolve()


def _refuse_outside(path: Path, name: str) -> None:
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
        raise UserError(f"{path}: the name {name!r:.80} leaves the bundle; refused")


def _inside(folder: Path, name: str) -> Path:
    """``folder/name``; raises `UserError` unless it is a plain file, reached without links."""
    path = folder
    for part in PurePosixPath(name).parts:
        path = path / part
        if leads_out(folder, path):
            raise UserError(f"{path}: a link, which a bundle cannot have; fetch it again")
    if not path.is_file():
        how = "not a plain file" if path.exists() else f"missing, though {SUMS_NAME} lists it"
        raise UserError(f"{path}: {how}; fetch the bundle again")
    return path
