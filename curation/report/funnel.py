"""The funnel from raw to clean: the histories of several sets as one tree of steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.image_set import ImageSet, ViewStep
from curation.store import Store
from curation.views import SetStep
from curation.wording import counted, parameters


@dataclass(frozen=True)
class FunnelRow:
    """One step: the counts before and after it, and the sets that end with it."""

    name: str
    parameters: str
    branch: int
    """Number of forks before it; all steps of a chain have the same"""
    sets: tuple[str, ...]
    images_before: int
    images: int
    identities_before: int
    identities: int


@dataclass
class _Node:
    """A step and the steps that follow it; ``step`` is None for the store itself."""

    step: ViewStep | None = None
    sets: list[str] = field(default_factory=list)
    following: "list[_Node]" = field(default_factory=list)


def funnel(sets: Sequence[ImageSet]) -> list[FunnelRow]:
    """The store's row, then each step after the one it builds on; common steps appear once.

    ``sets`` are the store, views of it, or both; branches are in their order.
    """
    store = sets[0].store.stores[0]  # the start of a history
    root = _Node(sets=[store.path.name])
    for images in sets:
        node = root
        for step in images.history:
            node = _after(node, step)
        if images.path.name not in node.sets:
            node.sets.append(images.path.name)
    raw = FunnelRow(
        *("store", _source(store), 0, tuple(root.sets)),
        *(len(store), len(store), store.identities, store.identities),
    )
    return [raw, *_rows(root)]


def _source(store: Store) -> str:
    words = f"from {store.meta.source_name}"
    if store.meta.skipped:
        words += f" without {counted(store.meta.skipped, 'bad record')}"
    return words


def _described(step: ViewStep) -> str:
    words = parameters(step.parameters)
    if not isinstance(step, SetStep):
        return words
    return ", ".join(filter(None, [words, f"with {Path(step.other.path).name}"]))


def _after(node: _Node, step: ViewStep) -> _Node:
    for known in node.following:
        if known.step == step:
            return known
    node.following.append(_Node(step))
    return node.following[-1]


def _rows(root: _Node) -> Iterator[FunnelRow]:
    """Each step before its successors. Iterative: a history may be longer than Python's stack."""
    waiting = _following(root, 0)
    while waiting:
        node, branch = waiting.pop()
        step = node.step
        assert step is not None
        yield FunnelRow(
            *(step.name, _described(step), branch, tuple(node.sets)),
            *(step.images_before, step.images_after),
            *(step.identities_before, step.identities_after),
        )
        waiting += _following(node, branch)


def _following(node: _Node, branch: int) -> list[tuple[_Node, int]]:
    """The steps after this one with their branch, in reverse order."""
    branch += len(node.following) > 1
    return [(each, branch) for each in reversed(node.following)]
