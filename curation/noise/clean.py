"""Applies decisions: a view without dropped images, and with moved ones in their new identity."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.labels import UNLABELLED, renumbered, sort_keys
from curation.noise.decisions import Decision
from curation.unlabelled import with_each_alone
from curation.view_writing import write_view
from curation.views import View

CLEAN = "clean"
_DROPPED = -1


def apply_decisions(labels: np.ndarray, decisions: Sequence[Decision]) -> np.ndarray:
    """New labels int64 ``[N]`` from labels ``[N]``; -1 for dropped images.

    Splits create new labels above the old ones; chains of merges are followed to their end. Only
    decisions with ``apply`` count. Raises ``UserError`` if a decision names a missing image or
    identity, an image of another identity, or if merges form a cycle.
    """
    identities = int(labels[-1]) + 1
    chosen = [decision for decision in decisions if decision.apply]
    for decision in chosen:
        check_decision(decision, labels, identities)
    target = _merge_targets(chosen, identities)
    new = target[labels.astype(np.int64)]
    parts: dict[tuple[int, int], int] = {}
    for decision in chosen:
        image, into = decision.image, decision.into
        if decision.action == "move" and into is not None:
            new[image] = target[into]
        elif decision.action == "split" and into is not None:
            new[image] = parts.setdefault((decision.identity, into), identities + len(parts))
    is_dropped = np.zeros(identities, bool)
    for decision in chosen:
        if decision.action == "drop":
            new[decision.image] = _DROPPED
        elif decision.action == "drop-identity":
            is_dropped[decision.identity] = True
    new[is_dropped[labels]] = _DROPPED
    return new


def decisions_digest(decisions: Sequence[Decision]) -> str:
    """Identifies the applied decisions: 16 hex digits of a SHA-256."""
    chosen = [decision for decision in decisions if decision.apply]
    content = "\n".join(f"{d.action} {d.image} {d.identity} {d.into}" for d in chosen)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_clean(path: Path, parent: ImageSet, decisions: Sequence[Decision]) -> View:
    """Write the view of ``parent`` after the decisions; raises the errors of ``carried_out``."""
    rows, labels = carried_out(parent, decisions)
    counts = Counter(decision.action for decision in decisions if decision.apply)
    return write_view(
        path,
        parent,
        rows,
        labels,
        CLEAN,
        {"decisions": decisions_digest(decisions), **dict(sorted(counts.items()))},
    )


def carried_out(parent: ImageSet, decisions: Sequence[Decision]) -> tuple[np.ndarray, np.ndarray]:
    """The images of ``parent`` that remain, in their new order, and their labels: int64 ``[M]``.

    An unlabelled image counts as an identity of its own, numbered after the others. It gets a label
    if a decision joins it with another image or splits it off. Raises the errors of
    ``apply_decisions``.
    """
    alone = with_each_alone(parent)
    new = apply_decisions(alone.labels, decisions)
    rows = np.flatnonzero(new != _DROPPED)
    new = new[rows]
    without = (parent.identities <= new) & (new < alone.identities)
    without &= np.bincount(new, minlength=1)[new] == 1
    new = np.where(without, UNLABELLED, new)
    order = np.argsort(sort_keys(new), kind="stable")
    return rows[order], renumbered(new[order])


def check_decision(decision: Decision, labels: np.ndarray, identities: int) -> None:
    """``UserError`` if the decision names a missing image or identity, or an image of another
    identity.
    """
    what = f"decision {decision.action!r}"
    if decision.identity >= identities:
        raise UserError(f"{what}: there is no identity {decision.identity}; there are {identities}")
    if decision.action in ("move", "merge") and (decision.into or 0) >= identities:
        raise UserError(f"{what}: there is no identity {decision.into}; there are {identities}")
    if decision.image is None:
        return
    if decision.image >= len(labels):
        raise UserError(f"{what}: there is no image {decision.image}; there are {len(labels)}")
    if labels[decision.image] != decision.identity:
        raise UserError(
            f"{what}: image {decision.image} is of identity {labels[decision.image]}, "
            f"not {decision.identity}"
        )


def _merge_targets(decisions: Sequence[Decision], identities: int) -> np.ndarray:
    """int64 ``[identities]``: the identity to which each belongs after all merges."""
    into = {d.identity: d.into for d in decisions if d.action == "merge" and d.into is not None}
    target = np.arange(identities)
    left = dict(into)
    for identity in into:
        chain, end = [], identity
        while end in left:
            chain.append(end)
            end = left.pop(end)
        if end in chain:
            raise UserError(f"the merges of identity {identity} form a cycle")
        target[chain] = target[end]
    return target
