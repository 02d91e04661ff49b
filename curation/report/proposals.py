"""The effect of accepting a case, as lines of the table of decisions."""

import hashlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.noise.check import NoiseCheck
from curation.noise.decisions import DECISIONS_FILE, Decision, write_decisions
from curation.noise.presentation import ScoredSubject
from curation.wording import counted

NOTE = "accepted in the report"
"""The note on lines that were not in the table."""


@dataclass(frozen=True)
class Proposal:
    """The lines about one subject."""

    findings: str = ""
    """``Finding.identity`` of its findings"""
    lines: tuple[Decision, ...] = ()
    settled_by: str = ""
    """The check that proposed these lines, if it is another one: an image has one decision"""
    is_new: bool = False
    """The table has no line about it"""

    @property
    def is_applied(self) -> bool:
        return bool(self.lines) and all(line.apply for line in self.lines)

    @property
    def in_words(self) -> str:
        """The effect of accepting it: "leave out image 7"; empty without a proposal."""
        return _in_words(self.lines) if self.lines else ""

    @property
    def key(self) -> str:
        """Identifies the proposal to a browser that stores verdicts.

        Findings of another teacher, or another proposal for the same image, have another key.
        """
        content = "\n".join([self.findings, *(line.proposal for line in self.lines)])
        return hashlib.sha256(content.encode()).hexdigest()[:24]


class Proposals:
    """The decisions on every subject: those of the table, or else the check's proposal."""

    def __init__(self, table: Iterable[Decision]) -> None:
        self._of_identity: dict[int, list[Decision]] = defaultdict(list)
        self._merged_into: dict[int, list[Decision]] = defaultdict(list)
        for line in table:
            self._of_identity[line.identity].append(line)
            if line.action == "merge" and line.into is not None:
                self._merged_into[line.into].append(line)

    def of_identity(self, identity: int) -> list[Decision]:
        """The table's lines about an identity and its images."""
        return self._of_identity.get(identity, [])

    def of(self, check: NoiseCheck, one: ScoredSubject) -> Proposal:
        """The check's lines about the subject, or the line that settles it, or a new proposal."""
        findings = one.finding.identity
        image = one.index if one.finding.subject == "image" else None
        lines = self.of_identity(one.identity)
        own = [line for line in lines if line.check == check.name and image in (None, line.image)]
        if own:
            return Proposal(findings, tuple(own))
        settled = [line for line in lines if _settles(line, image)]
        if check.merge_column:
            other = one.named(check.merge_column)
            merged = self._merged_into.get(one.identity, [])
            settled += [line for line in merged if line.identity == other]
        if settled:
            return Proposal(findings, (settled[0],), settled_by=settled[0].check)
        # Not applied: the table has no line because there was no flag.
        new = [
            replace(line, check=check.name, score=one.score, note=NOTE, findings=findings)
            for line in check.propose_one(one)
        ]
        return Proposal(findings, tuple(replace(line, apply=False) for line in new), is_new=True)


def _settles(line: Decision, image: int | None) -> bool:
    """Whether the line settles the image, or for None its whole identity."""
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
    """The table's head and each case's lines, in the format of the table.

    ``{"head": [...], "lines": {case: [line, ...]}}``; safe inside a ``script`` element. Every line
    names its findings.
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
