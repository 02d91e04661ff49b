"""Finding people who are in two image sets, and giving them one identity in a joint view."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.gathered_images import GatheredImages
from curation.image_set import ImageSet
from curation.labels import sort_keys
from curation.noise.checks.divided import judge_neighbours
from curation.noise.clean import carried_out, decisions_digest
from curation.noise.decisions import Decision
from curation.noise.embedded import ImageSetEmbedder
from curation.noise.label_errors import estimate_label_errors
from curation.printable import argument
from curation.progress import StepDisplay, unwatched
from curation.subsets.sets import united
from curation.view_writing import write_rows
from curation.views import View, view_digest

JOIN = "join"
LEAST_PROBABILITY = 0.5


@dataclass(frozen=True)
class BothSets:
    """Two combined sets: ``images`` has the identities of ``first``, then those that occur only in
    ``second``."""

    first: ImageSet
    second: ImageSet
    images: GatheredImages

    def propose(
        self, pairs: np.ndarray, scores: np.ndarray, notes: Sequence[str]
    ) -> list[Decision]:
        """Merges of identities int64 ``[P, 2]`` of the first and the second set, surest first.

        An identity is merged with at most one other, because the first set is assumed to have each
        person once.
        """
        return [
            Decision(
                "merge",
                int(pairs[number, 1]),
                None,
                int(pairs[number, 0]),
                JOIN,
                float(scores[number]),
                notes[number],
            )
            for number in only_once(pairs, scores)
        ]


def only_once(pairs: np.ndarray, scores: np.ndarray) -> list[int]:
    """The indices of ``pairs`` int64 ``[P, 2]``, surest first, that use no identity twice."""
    taken: set[int] = set()
    chosen = []
    for number in np.argsort(-scores, kind="stable").tolist():
        pair = set(pairs[number].tolist())
        if not pair & taken:
            taken |= pair
            chosen.append(number)
    return chosen


def bring_together(first: ImageSet, second: ImageSet) -> BothSets:
    """Combine two sets; raises the errors of ``write_union``."""
    root, rows, labels = united(first, second)
    # If an image is in both, the one with a label comes first.
    order = np.lexsort((rows, sort_keys(labels)))
    order = order[np.sort(np.unique(rows[order], return_index=True)[1])]
    rows, labels = rows[order].astype("<i8"), labels[order].astype("<i4")
    digest = view_digest(root, rows, labels)
    return BothSets(first, second, GatheredImages(first.path, root, rows, labels, digest))


def same_by_embeddings(
    both: BothSets, embedder: ImageSetEmbedder, watch: StepDisplay | None = None
) -> list[Decision]:
    """Identities of both sets that are one person according to a teacher, with probabilities.

    Compares neighbouring prototypes. The similarity within one person is estimated from the images,
    as in the check ``divided``. Raises ``UserError`` if a set has no labels.
    """
    _check_labelled(both)
    watch, labelled = watch or unwatched, _labelled(both.images)
    with watch("embed", "images") as progress:
        embedded, _ = embedder.embed(labelled, progress)
    with watch("compare", "rounds") as progress:
        label_errors = estimate_label_errors(embedded, progress=progress)
    with watch("search", "identities") as progress:
        near = judge_neighbours(embedded, label_errors, progress=progress)
    across = (near.pairs[:, 0] < both.first.identities) & (
        near.pairs[:, 1] >= both.first.identities
    )
    likely = across & (near.probability > LEAST_PROBABILITY)
    notes = [f"prototypes' cosine {cosine:.3f}" for cosine in near.similarity[likely]]
    return both.propose(near.pairs[likely], near.probability[likely], notes)


def same_by_name(both: BothSets) -> list[Decision]:
    """Identities of both sets whose images are in folders of the same name in their sources.

    Ignores case, and treats underscores as spaces. Raises ``UserError`` if a set has no labels, no
    names or no folders.
    """
    _check_labelled(both)
    for images in (both.first, both.second):
        _check_named(images)
    images, limit = both.images, both.first.identities
    names = images.store.source_names
    assert names is not None
    firsts = images.rows[images.offsets[:-1]].tolist()
    by_name: dict[str, list[int]] = {}
    for identity, row in enumerate(firsts):
        by_name.setdefault(_folder(names[row]), []).append(identity)
    pairs, notes = [], []
    for name, identities in by_name.items():
        ours = [each for each in identities if each < limit]
        theirs = [each for each in identities if each >= limit]
        if len(ours) == 1 and len(theirs) == 1:  # several of one name cannot be told apart
            pairs.append((ours[0], theirs[0]))
            notes.append(name)
    return both.propose(np.array(pairs, np.int64).reshape(-1, 2), np.ones(len(pairs)), notes)


def write_join(path: Path, both: BothSets, decisions: Sequence[Decision], by: str) -> View:
    """The view of both sets with the decisions applied.

    Raises ``UserError`` if one does not match the images, or if ``path`` exists.
    """
    places, labels = carried_out(both.images, decisions)
    merges = sum(each.apply and each.action == "merge" for each in decisions)
    return write_rows(
        path,
        both.first,
        both.images.rows[places],
        labels,
        JOIN,
        {"by": by, "decisions": decisions_digest(decisions), "merge": merges},
        both.second,
        both.images.store,
    )


def _labelled(images: GatheredImages) -> ImageSet:
    """The images that have a label."""
    if not images.unlabelled:
        return images
    count = len(images) - images.unlabelled
    rows, labels = images.rows[:count], images.labels[:count]
    return GatheredImages(images.path, images.store, rows, labels, images.digest)


def _check_labelled(both: BothSets) -> None:
    for images, other in ((both.first, both.second), (both.second, both.first)):
        if not images.identities:
            raise UserError(
                f"{images.path} has no labelled images, so no person in it can be matched; "
                f"`curate cluster {argument(images.path)} NAME.view --into {argument(other.path)}` "
                "gives its faces the people of the other set, `curate view union` combines both"
            )


def _check_named(images: ImageSet) -> None:
    names = images.store.source_names
    if names is None:
        raise UserError(
            f"{images.path} was made from records, in which people have no names; match people "
            f"by their faces with --teacher"
        )
    if not any(_folder(names[row]) for row in images.rows[:100].tolist()):
        raise UserError(
            f"the images of {images.path} are not in folders that could name people (such as "
            f"{names[images.rows[0]]!r}); match people by their faces with --teacher"
        )


def _folder(name: str) -> str:
    """The normalised name of the folder of an image's path; empty if there is none."""
    folder = name.rpartition("/")[0].rpartition("/")[2]
    return " ".join(unicodedata.normalize("NFC", folder).casefold().replace("_", " ").split())
