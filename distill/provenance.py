"""The origin of a job, recorded when it is submitted: spec, overrides, code, data, versions.

Reads records that other processes wrote; ``distill.pipeline.provenance`` creates them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from curation.json_text import parse_record
from distill.run_directory import PROVENANCE, Record, found

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Hex SHA-256"""
Text = Annotated[str, Field(min_length=1, max_length=5000)]
_SHORT = 12
"""Digits of a digest that are displayed"""


class Code(Record):
    """This software's code on disk."""

    version: Text
    digest: Digest
    """Over the names and bytes of all files"""
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    """The git commit of the checkout that contains it, if any"""
    changed: bool | None = None
    """Whether it differs from the commit"""

    def __str__(self) -> str:
        if self.commit is None:
            return f"{self.version}, digest {self.digest[:_SHORT]}"
        return f"commit {self.commit[:_SHORT]}{' with changes' if self.changed else ''}"


class Circumstances(Record):
    """What determines the result of a job besides its spec."""

    code: Code
    versions: dict[Text, Text]
    """Versions of Python and of the packages that do the work"""
    data: dict[Text, Digest]
    """The data sets by their names in the spec"""
    teacher: dict[Text, Digest]
    """The teacher by its name in the spec, if it existed"""
    beginning: dict[Text, Digest] = Field(default_factory=dict)
    """The network that the student starts from by its name in the spec, if it existed"""


class Provenance(Circumstances):
    """Where a job comes from (``provenance.json``, and ``lineage.json`` of a bundle)."""

    at: Text
    """When it was recorded, as ISO 8601 in UTC"""
    file: Text
    """The path of the spec, as given"""
    spec: Digest
    """The digest of the text that runs"""
    overrides: tuple[str, ...] = Field(default=(), strict=False, max_length=1000)
    """The values of ``--set``"""
    written: str | None = None
    """The text before overrides; ``None`` if there are none"""


def read_provenance(run: Path) -> Provenance | None:
    """The provenance in a run directory; ``None`` if it is missing or unreadable."""
    return found(run / PROVENANCE, Provenance)


def parse_provenance(record: str | None) -> Provenance | None:
    """The provenance in the queue; ``None`` if it is missing or of an unknown version."""
    try:
        return None if record is None else parse_record(record.encode(), Provenance)
    except ValueError:
        return None


def changes(before: Circumstances, now: Circumstances) -> Iterator[str]:
    """Descriptions of what has changed, among what was known before and is known now."""
    if before.code.digest != now.code.digest:
        old, new = str(before.code), str(now.code)
        if old == new:
            old, new = (f"digest {each.code.digest[:_SHORT]}" for each in (before, now))
        yield f"the code was {old} and is {new}"
    elif before.code.version != now.code.version:
        yield f"face-distill was {before.code.version} and is {now.code.version}"
    for name, old, new in _changed(before.versions, now.versions):
        yield f"{name} was {old} and is {new}"
    yield from input_changes(before, now)


def input_changes(before: Circumstances, now: Circumstances) -> Iterator[str]:
    """The part of ``changes`` that finished and begun steps cannot be used with."""
    for kind, olds, news in (
        ("data set", before.data, now.data),
        ("teacher", before.teacher, now.teacher),
        ("beginning", before.beginning, now.beginning),
    ):
        for name, old, new in _changed(olds, news):
            yield f"the {kind} {name} had the digest {old[:_SHORT]} and has {new[:_SHORT]}"


def _changed(before: dict[str, str], now: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    for name, old in before.items():
        if (new := now.get(name, old)) != old:
            yield name, old, new
