"""What would be done about each case: lines of the table of decisions."""

import hashlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.noise.decisions import DECISIONS_FILE, Action, Decision, write_decisions
from curation.noise.findings import Finding
from curation.report.wording import counted
from curation.store import ImageSet

NOTE = "accepted in the report"
"""The remark on lines that the table did not have."""

_Proposed = tuple[Action, int, int | None, int | None]
"""(action, identity, image, into)"""


@dataclass(frozen=True)
class Proposal:
    """The lines about one subject."""

    findings: str = ""
    """``Finding.identity`` of what it is about"""
    lines: tuple[Decision, ...] = ()
    settled_by: str = ""
    """The check whose lines these are, where it is another one: an image has one fate"""

    @property
    def is_applied(self) -> bool:
        return bool(self.lines) and all(line.apply for line in self.lines)

    @property
    def in_words(self) -> str:
        """What accepting it does: "leave out image 7"; empty where nothing is proposed."""
        return _in_words(self.lines) if self.lines else ""

    @property
    def key(self) -> str:
        """By which a browser knows a verdict on it again: of the findings and what is proposed.

        Findings of another teacher, or another proposal about the same image, have another key.
        """
        content = "\n".join([self.findings, *(line.proposal for line in self.lines)])
        return hashlib.sha256(content.encode()).hexdigest()[:24]


class Proposals:
    """The decisions about every subject: those of the table, or else what a flag would mean."""

    def __init__(self, images: ImageSet, table: Iterable[Decision]) -> None:
        self._images = images
        self._of_identity: dict[int, list[Decision]] = defaultdict(list)
        self._merged_into: dict[int, list[Decision]] = defaultdict(list)
        for line in table:
            self._of_identity[line.identity].append(line)
            if line.action == "merge" and line.into is not None:
                self._merged_into[line.into].append(line)

    def of(self, finding: Finding, position: int) -> Proposal:
        """What the table says about the subject; else what is said of it elsewhere; else anew."""
        subject = int(finding.subjects[position])
        image = subject if finding.subject == "image" else None
        identity = subject if image is None else int(self._images.labels[image])
        lines = self._of_identity.get(identity, [])
        own = [
            line for line in lines if line.check == finding.check and image in (None, line.image)
        ]
        if own:
            return Proposal(finding.identity, tuple(own))
        settled = [line for line in lines if _settles(line, image)]
        if finding.check == "divided":
            other = int(finding.evidence["other_identity"][position])
            settled += [
                line for line in self._merged_into.get(identity, []) if line.identity == other
            ]
        if settled:
            return Proposal(finding.identity, (settled[0],), settled_by=settled[0].check)
        return Proposal(finding.identity, self._new(finding, position, subject))

    def _new(self, finding: Finding, position: int, subject: int) -> tuple[Decision, ...]:
        """What a flag would mean, not applied: the table has nothing because there was none."""
        score = float(finding.scores[position])
        return tuple(
            Decision(*line, finding.check, score, NOTE, False, finding.identity)
            for line in self._proposed(finding, position, subject)
        )

    def _proposed(self, finding: Finding, position: int, subject: int) -> list[_Proposed]:
        if finding.check == "mixed":
            return [("split", subject, i, part) for i, part in self._parts(finding, subject)]
        if finding.check == "divided":
            other = int(finding.evidence["other_identity"][position])
            return [("merge", subject, None, other)] if other >= 0 else []
        if finding.check == "overlap":
            return [("drop-identity", subject, None, None)]
        if finding.subject == "identity":
            return []
        return [("drop", int(self._images.labels[subject]), subject, None)]

    def _parts(self, finding: Finding, identity: int) -> list[tuple[int, int]]:
        """(image, its part) for the images of an identity that would not stay."""
        part = finding.images.get("part")
        if part is None:
            return []
        begin, end = self._images.offsets[identity : identity + 2]
        leaving = begin + np.flatnonzero(part[begin:end])
        return [(int(i), int(part[i])) for i in leaving]


def _settles(line: Decision, image: int | None) -> bool:
    """Whether nothing more can be done about the image, or (None) about its whole identity."""
    return line.action == "drop-identity" or (image is not None and line.image == image)


def _in_words(lines: Sequence[Decision]) -> str:
    first = lines[0]
    match first.action:
        case "drop":
            return f"leave out image {first.image}"
        case "move":
            return f"move image {first.image} to identity {first.into}"
        case "drop-identity":
            return f"leave out identity {first.identity}"
        case "merge":
            return f"merge identity {first.identity} into identity {first.into}"
    parts = len({line.into for line in lines})
    people = "a new identity" if parts == 1 else f"{parts} new identities"
    return f"make {people} of {counted(len(lines), 'image')} of identity {first.identity}"


def as_json(images_digest: str, lines: Mapping[str, Sequence[Decision]]) -> str:
    """The head of the table, and each case's lines as the table would hold them.

    ``{"head": [...], "lines": {case: [line, ...]}}``; safe inside a ``script`` element. Every line
    names the findings it is about.
    """
    flat = [decision for decisions in lines.values() for decision in decisions]
    head, rows = _table_text(images_digest, flat)
    following = iter(rows)
    content = {
        "head": head,
        "lines": {case: [next(following) for _ in given] for case, given in lines.items()},
    }
    return json.dumps(content).replace("<", "\\u003c")


def _table_text(images_digest: str, decisions: Sequence[Decision]) -> tuple[list[str], list[str]]:
    """The lines exactly as ``write_decisions`` writes them: the two of the head, and the rest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DECISIONS_FILE
        write_decisions(path, images_digest, decisions)
        text = path.read_text("utf-8").split("\n")[:-1]
    return text[:2], text[2:]
