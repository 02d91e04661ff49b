"""Finds identities for the unlabelled images of a set: proposed as decisions, applied as a view."""

from pathlib import Path

import numpy as np

from curation.clustering import group_faces
from curation.errors import UserError
from curation.files import check_free
from curation.image_set import ImageSet
from curation.joining import LEAST_PROBABILITY, BothSets, write_join
from curation.neighbours import blocks
from curation.noise.checks.divided import judge_neighbours
from curation.noise.clean import apply_decisions, write_clean
from curation.noise.decisions import Decision, decisions_with
from curation.noise.embedded import EmbeddedImages
from curation.noise.label_errors import estimate_label_errors
from curation.progress import Progress
from curation.unlabelled import with_each_alone
from curation.views import View

SUFFIX = ".cluster.tsv"
CHECK = "cluster"
_BLOCK = 1 << 16


def check_unlabelled(images: ImageSet) -> None:
    """Raise ``UserError`` if there are fewer than two unlabelled images."""
    if images.unlabelled < 2:
        raise UserError(
            f"{images.path} has {images.unlabelled:,} images without a label, so there is nothing "
            "to group; `curate convert SOURCE NAME.lmdb --unlabelled` makes a store without "
            "labels; `curate check --only divided` finds people under several labels"
        )


def propose_groups(
    images: ImageSet, embedded: EmbeddedImages, progress: Progress | None = None
) -> list[Decision]:
    """Propose to merge unlabelled images into the first image of their group.

    ``embedded`` are the images of ``with_each_alone(images)``. The score of a group is that of its
    least certain merge. Progress counts images.
    """
    check_unlabelled(images)
    first = len(images) - images.unlabelled
    vectors = np.empty((images.unlabelled, embedded.dimension), np.float32)
    for block in blocks(len(vectors), _BLOCK):
        vectors[block] = embedded.vectors(np.arange(first + block.start, first + block.stop))
    groups, sureness = group_faces(vectors, progress)
    alone = with_each_alone(images).labels[first:]
    sizes = np.bincount(groups)
    into = np.full(len(sizes), -1, np.int64)
    found = []
    for image in np.flatnonzero(sizes[groups] > 1).tolist():
        group = int(groups[image])
        if into[group] < 0:
            into[group] = alone[image]
            continue
        note = f"group of {sizes[group]}; image {first + image}"
        found.append(
            Decision(
                "merge",
                int(alone[image]),
                into=int(into[group]),
                check=CHECK,
                score=round(float(sureness[group]), 4),
                note=note,
            )
        )
    return found


def propose_into(
    both: BothSets, embedded: EmbeddedImages, progress: Progress | None = None
) -> list[Decision]:
    """``propose_groups``, plus merges of groups and single faces into labelled people of either
    set.

    People are matched as in ``curate join``. ``embedded`` are the images of
    ``with_each_alone(both.images)``.
    """
    groups = propose_groups(both.images, embedded, progress)
    heads, order, labels = _as_identities(embedded, groups)
    people = EmbeddedImages(labels, embedded.unit, embedded.norm, embedded.rows[order])
    near = judge_neighbours(people, estimate_label_errors(people))
    known = both.images.identities
    homes: dict[int, Decision] = {}
    for pair in np.argsort(-near.probability, kind="stable").tolist():
        into, group = near.pairs[pair].tolist()
        probability = float(near.probability[pair])
        if into < known <= group and probability > LEAST_PROBABILITY:
            note = f"prototypes' cosine {near.similarity[pair]:.3f}"
            score = round(probability, 4)
            found = Decision(
                "merge", int(heads[group]), into=into, check=CHECK, score=score, note=note
            )
            homes.setdefault(group, found)
    return [*homes.values(), *groups]


def _as_identities(
    embedded: EmbeddedImages, groups: list[Decision]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The identities that the groups make: the identity of ``embedded`` that names each, the order
    of the images, and their labels in that order.
    """
    new = apply_decisions(embedded.labels, groups)
    order = np.argsort(new, kind="stable")
    heads, labels = np.unique(new[order], return_inverse=True)
    return heads, order, labels


def write_groups(
    path: Path,
    images: ImageSet | BothSets,
    embedded: EmbeddedImages,
    progress: Progress | None = None,
) -> tuple[View, Path]:
    """Write the view ``path`` with groups as identities, and the table of decisions beside it.

    ``BothSets`` are grouped by ``propose_into``. Raises ``UserError`` if the view or the table
    exists or no two images are alike.
    """
    table = path.with_suffix(SUFFIX)
    check_free(path, table)
    both = images if isinstance(images, BothSets) else None
    gathered = images.images if isinstance(images, BothSets) else images
    if both is None:
        decisions = propose_groups(gathered, embedded, progress)
    else:
        decisions = propose_into(both, embedded, progress)
    if not decisions:
        raise UserError(
            f"no two of the {gathered.unlabelled:,} unlabelled images of {gathered.path} clearly "
            f"show the same person; check the teacher's --colour, --mean and --std"
        )
    table.parent.mkdir(parents=True, exist_ok=True)
    with decisions_with(table, gathered.digest, decisions):
        if both is None:
            made = write_clean(path, gathered, decisions)
        else:
            made = write_join(path, both, decisions, CHECK)
    return made, table
