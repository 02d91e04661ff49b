"""Validates what a reviewer wants to do with a case."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from curation.errors import UserError
from curation.noise.clean import check_decision
from curation.noise.decisions import About, Decision, parse_proposal
from curation.noise.overrides import contradict
from curation.review.cases import Cases
from curation.review.standing import Standing


def checked_lines(cases: Cases, standing: Standing, lines: Sequence[str]) -> tuple[str, ...]:
    """Validate ``lines``, each a ``Decision.proposal``.

    The part 0 of a split becomes an unused part. Raises ``UserError`` for a malformed line, a
    missing image or identity, or contradicting lines.
    """
    images = cases.images
    parts: dict[int, int] = {}
    found: dict[str, Decision] = {}
    for text in lines:
        try:
            action, identity, image, into = parse_proposal(_with_part(text))
        except ValueError as error:
            raise UserError(f"a line of this decision: {error}") from None
        line = Decision(action, identity, image, into)
        check_decision(line, images.labels, images.identities)
        if action in ("move", "merge") and identity == into:
            raise UserError(f"{text}: it is in identity {into} already")
        if text.endswith(" 0") and action == "split":
            if identity not in parts:
                parts[identity] = _free_part(cases, standing, identity)
            line = replace(line, into=parts[identity])
        found[line.proposal] = line
    _refuse_contradictions(found.values())
    return tuple(found)


def confirms(cases: Cases, case: int, lines: Sequence[str]) -> bool:
    """Whether the decision confirms the check, that is, changes its subject."""
    image, identity = cases.image(case), int(cases.identity[case])
    for text in lines:
        action, of, which, into = parse_proposal(text)
        is_pair = action == "merge" and identity in (of, into)
        if (image is not None and which == image) or (image is None and of == identity):
            return True
        if is_pair and image is None:
            return True
    return False


def _with_part(text: str) -> str:
    """Make a line parseable: the part 0 stands for an unused part."""
    return f"{text[:-1]}1" if text.startswith("split ") and text.endswith(" 0") else text


def _free_part(cases: Cases, standing: Standing, identity: int) -> int:
    """An unused part of an identity."""
    which = range(*cases.images.offsets[identity : identity + 2].tolist())
    lines = [line for image in which for line in standing.about((None, image))]
    lines += cases.proposals.of_identity(identity)
    taken = [line.into or 0 for line in lines if line.action == "split"]
    return max(taken, default=0) + 1


def _refuse_contradictions(lines: Iterable[Decision]) -> None:
    about: dict[About, list[Decision]] = {}
    for line in lines:
        about.setdefault(line.about, []).append(line)
    for same in about.values():
        if contradict(same):
            both = " and ".join(line.proposal for line in same)
            raise UserError(f"these decisions contradict each other: {both}")
