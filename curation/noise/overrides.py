"""Merges tables of decisions; rejects contradictions and decisions on other findings."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.noise.decisions import About, Decision, read_decisions, subject_name
from curation.noise.findings import FINDINGS_FILE, Findings


def chosen_decisions(
    table: Path,
    overrides: Sequence[Path],
    images: ImageSet,
    findings: Path,
    reviewed: Sequence[Decision] | None = None,
) -> list[Decision]:
    """The decisions of ``table``, overridden by those of ``overrides``.

    ``reviewed`` replaces the table's decisions after a review. Lines that name findings must name
    those of the table's folder, or else of ``findings``. Without either, the overrides must name
    the same findings as the table. Raises ``UserError`` if a table cannot be read, or if lines name
    other findings or contradict each other.
    """
    decisions = read_decisions(table, images.digest) if reviewed is None else list(reviewed)
    changes = [line for path in overrides for line in read_decisions(path, images.digest)]
    folder = table.parent if (table.parent / FINDINGS_FILE).exists() else findings
    if (folder / FINDINGS_FILE).exists():
        refuse_other_findings([*decisions, *changes], Findings(folder, images))
    else:
        _refuse_unlike(changes, decisions, table)
    refuse_contradictions(decisions)
    refuse_contradictions(changes)
    return override_decisions(decisions, changes)


def override_decisions(
    decisions: Sequence[Decision], changes: Sequence[Decision]
) -> list[Decision]:
    """``decisions``, with those on the same image or whole identity replaced by ``changes``."""
    changed = {change.about for change in changes}
    kept = [decision for decision in decisions if decision.about not in changed]
    return kept + list(dict.fromkeys(changes))


def refuse_contradictions(decisions: Iterable[Decision]) -> None:
    """Raise ``UserError`` with all lines that contradict each other.

    A contradiction is both verdicts on one finding, one image or identity in two places, or an
    image both moved and dropped. ``drop`` with ``split`` and ``drop-identity`` with ``merge`` are
    compatible: dropping wins.
    """
    about: dict[About, list[Decision]] = defaultdict(list)
    for decision in decisions:
        about[decision.about].append(decision)
    listed = [
        f"{subject_name(subject)}: {', '.join(_described(line) for line in lines)}"
        for subject, lines in about.items()
        if len(lines) > 1 and contradict(lines)
    ]
    if listed:
        raise UserError(
            "these lines contradict each other; keep one of each\n  " + "\n  ".join(listed)
        )


def refuse_other_findings(decisions: Iterable[Decision], findings: Findings) -> None:
    """``UserError`` if any line was proposed for findings other than these."""
    named = [line for line in decisions if line.findings]
    checks = {line.findings.rpartition("-")[0] for line in named} & set(findings.checks)
    known = {findings.load(check).identity for check in checks}
    _refuse_others(named, known, str(findings.path))


def contradict(lines: Sequence[Decision]) -> bool:
    """Whether lines about one image or identity contradict each other."""
    verdicts: dict[tuple, set[bool]] = defaultdict(set)
    for line in lines:
        verdicts[line.check, line.action, line.into].add(line.apply)
    for line in lines:  # a line that a person added has no check and concerns every check
        verdicts[line.check, line.action, line.into] |= verdicts.get(
            ("", line.action, line.into), set()
        )
    applied = {(line.action, line.into) for line in lines if line.apply}
    places = [into for _, into in applied if into is not None]
    return (
        any(len(both) > 1 for both in verdicts.values())
        or len(places) > 1
        or {"drop", "move"} <= {action for action, _ in applied}
    )


def _described(line: Decision) -> str:
    into = "" if line.into is None else f" {line.into}"
    return f"{line.where} ({'yes' if line.apply else 'no'} {line.action}{into})"


def _refuse_unlike(changes: Sequence[Decision], decisions: Sequence[Decision], table: Path) -> None:
    """Without a folder of findings, reject lines that name others than the table does."""
    known = {line.findings for line in decisions if line.findings}
    checks = {name.rpartition("-")[0] for name in known}
    named = [line for line in changes if line.findings.rpartition("-")[0] in checks]
    _refuse_others(named, known, str(table))


def _refuse_others(named: Iterable[Decision], known: Collection[str], holder: str) -> None:
    others = [line for line in named if line.findings not in known]
    if others:
        raise UserError(
            f"these lines were made for other findings than those in {holder} (with another "
            f"teacher, or by an earlier check); decide again in a new report, or empty their "
            f"column `findings` to apply them anyway\n  " + "\n  ".join(_stale(others))
        )


def _stale(lines: Iterable[Decision]) -> Iterator[str]:
    for line in lines:
        yield f"{line.where}: {line.proposal} ({line.findings})"
