"""Which files a bundle has, and one check of all of them before any is used."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from curation.errors import UserError
from curation.files import read_whole
from curation.json_text import parse_json, parse_record
from distill.export.checksums import SUMS_NAME, verify_sums
from distill.export.config import BundleConfig, Thresholds
from distill.export.golden import GOLDEN_NAME

Value = TypeVar("Value")

LARGEST_JSON = 1 << 22
_LARGEST_MODEL = 1 << 31
FILES = {
    "README.md": LARGEST_JSON,
    "config.json": LARGEST_JSON,
    "evaluation.json": LARGEST_JSON,
    GOLDEN_NAME: 1 << 28,
    "lineage.json": LARGEST_JSON,
    "model.onnx": _LARGEST_MODEL,
    "model.safetensors": _LARGEST_MODEL,
    "thresholds.json": LARGEST_JSON,
}
"""All that a bundle has beside its ``SHA256SUMS``, and bytes that each may have."""


class BundleRecords(NamedTuple):
    """What a whole bundle says of itself."""

    config: BundleConfig
    thresholds: Thresholds


def check_bundle(folder: Path) -> BundleRecords:
    """Check every file of a bundle against its checksum and form.

    Raises ``UserError`` where the folder is no bundle, lacks a file or lists another one, and where
    a file was changed or says what it cannot say.
    """
    verify_sums(folder, FILES)
    for name in ("evaluation.json", "lineage.json"):
        _read(folder / name, _object)
    return BundleRecords(
        _read(folder / "config.json", partial(parse_record, model=BundleConfig)),
        _read(folder / "thresholds.json", partial(parse_record, model=Thresholds)),
    )


def may_be_bundle(folder: Path) -> bool:
    """Whether a folder has what a bundle has, whole or not, and nothing else of anybody's."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    parts = {SUMS_NAME, *FILES, *(Path(name).parent.as_posix() for name in FILES)}
    return SUMS_NAME in found and "config.json" in found and found <= parts


def _read(path: Path, parse: Callable[[bytes], Value]) -> Value:
    content = read_whole(path, LARGEST_JSON)
    try:
        return parse(content)
    except ValueError as error:
        raise UserError(f"{path}: {error}; fetch the bundle again") from None


def _object(content: bytes) -> dict[str, Any]:
    value = parse_json(content)
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    return value
