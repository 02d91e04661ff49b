"""Identities for the unlabelled images of a set: proposed as decisions, carried out as a view."""

from pathlib import Path

import numpy as np

from curation.clustering import group_faces
from curation.errors import UserError
from curation.neighbours import blocks
from curation.noise.clean import write_clean
from curation.noise.decisions import Decision, write_decisions
from curation.noise.embedded import EmbeddedImages
from curation.progress import Progress
from curation.store import ImageSet
from curation.unlabelled import with_each_alone
from curation.views import View

SUFFIX = ".cluster.tsv"
CHECK = "cluster"
_BLOCK = 1 << 16


def check_unlabelled(images: ImageSet) -> None:
    """Raise ``UserError`` where there is nobody to find an identity for."""
    if images.unlabelled < 2:
        raise UserError(
            f"{images.path} has {images.unlabelled} images without a label; there is nothing to "
            "group. `curate convert SOURCE NAME.lmdb --unlabelled` makes a store without labels; "
            "`curate check --only divided` finds people under several labels"
        )


def propose_groups(
    images: ImageSet, embedded: EmbeddedImages, progress: Progress | None = None
) -> list[Decision]:
    """Which unlabelled images to merge into the first image of their group.

    ``embedded`` are the images of ``with_each_alone(images)``. The score is how sure the least sure
    merge of the group is. Progress counts images.
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


def write_groups(
    path: Path, images: ImageSet, embedded: EmbeddedImages, progress: Progress | None = None
) -> tuple[View, Path]:
    """The view ``path`` where groups are identities, and the table of decisions beside it.

    Raises ``UserError`` where ``path`` exists, or no two images are alike.
    """
    if path.exists():
        raise UserError(f"{path} exists; take it away or choose another name")
    table = path.with_suffix(SUFFIX)
    decisions = propose_groups(images, embedded, progress)
    if not decisions:
        raise UserError(
            f"no two of the {images.unlabelled:,} images without a label in {images.path} are "
            "surely of one person; is the teacher asked rightly (--colour, --mean, --std)?"
        )
    write_decisions(table, images.digest, decisions)
    return write_clean(path, images, decisions), table
