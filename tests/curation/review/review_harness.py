"""A review that tests open, its clock, and how they decide and look at the result."""

from pathlib import Path

from curation.noise.findings import Findings
from curation.review.events import ReviewEvent
from curation.review.log import DECISIONS_LOG
from curation.review.review import Review
from curation.store import Store


class Clock:
    """A clock that a test controls."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


def open_review(folder: Path, clock: Clock) -> Review:
    return Review(Store(folder / "train.lmdb"), Findings(folder / "train.findings"), clock)


def decide(
    review: Review,
    key: str,
    choice: str,
    lines: tuple[str, ...] = (),
    who: str = "ada",
    **more: int,
) -> ReviewEvent:
    """Decide as somebody who has just looked, or who looked at ``seen``."""
    case = review.look(key)
    findings = review.cases.findings[review.cases.check[case]].identity
    seen = more.get("seen", review.refresh())
    name = f"{who}-{key}-{len(review.standing)}"
    return review.decide(name, who, key, findings, seen, choice, lines)  # type: ignore[arg-type]


def log_lines(folder: Path) -> list[bytes]:
    return (folder / "train.findings" / DECISIONS_LOG).read_bytes().splitlines()


def applied(review: Review) -> set[str]:
    return {line.proposal for line in review.decisions() if line.apply}
