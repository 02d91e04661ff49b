"""The files of a bundle, and a check of all of them before any is used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from curation.errors import UserError
from curation.files import read_whole
from curation.json_text import parse_json, parse_record
from distill.export.checksums import SIGNATURE_NAME, SUMS_NAME, read_verified, verify_sums
from distill.export.config import BundleConfig, Thresholds
from distill.export.golden import GOLDEN_NAME

Value = TypeVar("Value")

LARGEST_JSON = 1 << 22
_LARGEST_MODEL = 1 << 31
WEIGHTS_NAME = "model.safetensors"
FILES = {
    "README.md": LARGEST_JSON,
    "config.json": LARGEST_JSON,
    "evaluation.json": LARGEST_JSON,
    GOLDEN_NAME: 1 << 28,
    "lineage.json": LARGEST_JSON,
    WEIGHTS_NAME: _LARGEST_MODEL,
    "thresholds.json": LARGEST_JSON,
}
"""The files of every bundle except ``SHA256SUMS``, and their largest sizes in bytes."""


class BundleRecords(NamedTuple):
    """The metadata of a complete bundle."""

    config: BundleConfig
    thresholds: Thresholds


def check_bundle(folder: Path) -> BundleRecords:
    """Check the checksum and format of every file of a bundle.

    Raises ``UserError`` if the folder is not a bundle, lacks a file or lists an unknown one, or if
    a file was changed or is invalid.
    """
    config = _parsed(
        folder / "config.json", read_verified(folder, "config.json", LARGEST_JSON), _config
    )
    verify_sums(folder, files_of(config))
    for name in ("evaluation.json", "lineage.json"):
        _read(folder / name, _object)
    thresholds = _read(folder / "thresholds.json", _thresholds)
    if config.thresholds not in (None, thresholds):
        raise UserError(
            f"{folder / 'config.json'}: its thresholds are not those of thresholds.json; fetch the "
            "bundle again"
        )
    return BundleRecords(config, thresholds)


def files_of(config: BundleConfig) -> dict[str, int]:
    """All files of a bundle except ``SHA256SUMS``, and their largest sizes in bytes."""
    exported = {name: _LARGEST_MODEL for names in config.formats.values() for name in names}
    return dict(sorted((exported | FILES).items()))


def may_be_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, possibly incomplete, perhaps with other files."""
    return {SUMS_NAME, "config.json"} <= _names_in(folder)


def other_files(folder: Path) -> list[str]:
    """The names of files and folders in a bundle's folder that do not belong to it, sorted."""
    try:
        files = files_of(_read(folder / "config.json", _config))
    except UserError:
        files = {**FILES, "model.onnx": _LARGEST_MODEL}
    folders = {parent.as_posix() for name in files for parent in Path(name).parents}
    return sorted(_names_in(folder) - {SUMS_NAME, SIGNATURE_NAME, *files, *folders})


def _names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _read(path: Path, parse: Callable[[bytes], Value]) -> Value:
    return _parsed(path, read_whole(path, LARGEST_JSON), parse)


def _parsed(path: Path, content: bytes, parse: Callable[[bytes], Value]) -> Value:
    try:
        return parse(content)
    except ValueError as error:
        raise UserError(f"{path}: {error}; fetch the bundle again") from None


def _config(content: bytes) -> BundleConfig:
    return parse_record(content, BundleConfig)


def _thresholds(content: bytes) -> Thresholds:
    return parse_record(content, Thresholds)


def _object(content: bytes) -> dict[str, Any]:
    value = parse_json(content)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return value
