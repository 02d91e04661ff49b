"""What a case shows, by check: the faces to compare and the reason in one sentence."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curation.noise.findings import Finding
from curation.report.album import Album, Face, FaceRow
from curation.report.wording import capital, counted, decimal

MOST_PARTS = 6
"""Rows of a mixed identity"""


@dataclass(frozen=True)
class Evidence:
    """What is looked at (large), what it is compared with, and why."""

    title: str
    reason: str
    subjects: tuple[Face, ...]
    rows: tuple[FaceRow, ...]


@dataclass(frozen=True)
class _Entry:
    """One subject of a finding with its numbers."""

    finding: Finding
    position: int

    @property
    def subject(self) -> int:
        return int(self.finding.subjects[self.position])

    def value(self, column: str) -> float:
        """NaN where the check did not write the column."""
        values = self.finding.evidence.get(column)
        return float("nan") if values is None else float(values[self.position])

    def index(self, column: str) -> int:
        """-1 where nothing is named."""
        values = self.finding.evidence.get(column)
        return -1 if values is None else int(values[self.position])


def evidence(album: Album, finding: Finding, position: int) -> Evidence:
    """What there is to see about the subject at ``position`` of ``finding``."""
    entry = _Entry(finding, position)
    show = _OF_CHECK.get(finding.check)
    if show is not None:
        return show(album, entry)
    return _image(album, entry, "") if finding.subject == "image" else _identity(album, entry, "")


def _misplaced(album: Album, entry: _Entry) -> Evidence:
    other = entry.index("other_identity")
    reason = (
        f"Similarity {decimal(entry.value('similarity'))} to the centre of its identity, "
        f"{decimal(entry.value('nearest'))} to its nearest three"
    )
    if other < 0:
        return _image(album, entry, f"{reason}; no other identity was compared.")
    reason += f"; {decimal(entry.value('other_similarity'))} to identity {other}"
    if entry.value("elsewhere") > 0:
        reason += f", where it belongs with probability {decimal(entry.value('elsewhere'))}"
    return _image(album, entry, f"{reason}.", album.identity(other, "Nearest other"))


def _unusable(album: Album, entry: _Entry) -> Evidence:
    reason = (
        f"Embedding length {decimal(entry.value('norm'))}; highest similarity to a centre "
        f"{decimal(entry.value('similarity'))}."
    )
    return _image(album, entry, reason)


def _duplicate(album: Album, entry: _Entry) -> Evidence:
    image, kept = entry.subject, entry.index("of")
    home = album.name(int(album.images.labels[image]))
    reason = (
        f"Similarity {decimal(entry.value('similarity'))}, difference of pixels "
        f"{decimal(entry.value('difference'))} (0: the same); in {home}."
    )
    faces = (album.suspect(image, "copy"), album.large(kept, "kept"))
    return Evidence(f"Image {image} repeats image {kept}", reason, faces, ())


def _mixed(album: Album, entry: _Entry) -> Evidence:
    images = album.members(entry.subject)
    part = entry.finding.images.get("part")
    parts = np.zeros(len(images), int) if part is None else part[images]
    rows, values = [], np.unique(parts)
    for value in values[:MOST_PARTS]:
        members = images[parts == value]
        what = "Stays" if value == 0 else f"New identity {value}"
        rows.append(album.row(members, f"{what}: {counted(len(members), 'image')}"))
    reason = (
        f"Looks like {counted(entry.index('parts'), 'person').replace('persons', 'people')}; "
        f"similarity {decimal(entry.value('between'))} between the parts' centres, "
        f"{counted(entry.index('smaller'), 'image')} in the smaller part."
    )
    if len(values) > MOST_PARTS:
        reason += f" {counted(len(values) - MOST_PARTS, 'further part')} not shown."
    return Evidence(capital(album.name(entry.subject)), reason, (), tuple(rows))


def _divided(album: Album, entry: _Entry) -> Evidence:
    identity, other = entry.subject, entry.index("other_identity")
    if other < 0:
        return _identity(album, entry, "No other identity was compared.")
    reason = f"Similarity {decimal(entry.value('similarity'))} of the two centres."
    rows = [album.identity(identity), album.identity(other)]
    into = entry.index("into")
    if into not in (-1, identity, other):
        rows.append(album.identity(into, "Others like them are merged into"))
    return Evidence(f"Identity {identity} looks like identity {other}", reason, (), tuple(rows))


def _overlap(album: Album, entry: _Entry) -> Evidence:
    place, image = entry.index("set"), entry.index("image")
    if place < 0:
        return _identity(album, entry, "No evaluation image came near.")
    face = album.evaluation_face(place, image)
    there = f"image {image} of {album.evaluation[place][0]}"
    reason = f"Similarity {decimal(entry.value('similarity'))} to {there}."
    return _identity(album, entry, reason, () if face is None else (face,))


def _image(album: Album, entry: _Entry, reason: str, *rows: FaceRow) -> Evidence:
    """The image beside the faces of its identity."""
    image = entry.subject
    identity = int(album.images.labels[image])
    own = album.identity(identity, "Its own", without=image)
    title = f"Image {image} (key {int(album.images.source_keys[image])}) in identity {identity}"
    return Evidence(title, reason, (album.suspect(image),), (own, *rows))


def _identity(
    album: Album, entry: _Entry, reason: str, subjects: tuple[Face, ...] = ()
) -> Evidence:
    row = album.identity(entry.subject, "Its images")
    return Evidence(f"Identity {entry.subject}", reason, subjects, (row,))


_OF_CHECK: dict[str, Callable[[Album, _Entry], Evidence]] = {
    "misplaced": _misplaced,
    "mixed": _mixed,
    "divided": _divided,
    "duplicate": _duplicate,
    "unusable": _unusable,
    "overlap": _overlap,
}
