"""The images that a job trains on: a set of the workspace, or several combined."""

from collections.abc import Iterator
from typing import Any

from curation.image_set import ImageSet
from curation.toml_positions import Location
from curation.views import open_images
from curation.workspace import Workspace
from distill.data_spec import DataSpec
from distill.losses import LossSettings
from distill.notices import Notice
from distill.spec_errors import SpecError, in_words, within
from distill.training.several_sets import SeveralSets, TrainedSet, as_one


def open_training_images(data: DataSpec, workspace: Workspace) -> ImageSet:
    """The images of ``data.train``; ``SpecError`` if they cannot be read or combined."""
    sources = []
    for key, each in data.placed.items():
        with within("data", *key):
            sources.append(
                TrainedSet(open_images(workspace.image_set(each.set)), each.share, each.labels)
            )
    with within("data", "train"):
        return as_one(sources)


def digests(data: DataSpec, images: ImageSet) -> dict[str, str]:
    """The digest of each set, by its name in the spec."""
    return {each["name"]: each["digest"] for each in trained_on(data, images)}


def trained_on(data: DataSpec, images: ImageSet) -> list[dict[str, Any]]:
    """`distill.export.config.TrainedOn` of each set, by its name in the spec, as JSON."""
    sets = [each.images for each in images.sources] if isinstance(images, SeveralSets) else [images]
    return [
        {
            "name": each.set,
            "digest": found.digest,
            "images": len(found),
            "identities": found.identities,
        }
        for each, found in zip(data.sets, sets, strict=True)
    ]


def check_labels(
    images: ImageSet, losses: dict[str, LossSettings], stage: Location
) -> Iterator[Notice]:
    """Raise ``SpecError`` if a loss of the ``stage`` cannot work with the available labels.

    Returns notices about images that no loss learns from.
    """
    if not images.unlabelled:
        return
    for name, loss in losses.items():
        key = (*stage, "losses", name)
        on_identities = loss.needs_labels or loss.needs_centres or loss.needs_teacher_centres
        if on_identities and not images.identities:
            raise SpecError(
                key,
                f"{name} needs identities, and no image of data.train has a usable label; use "
                f"losses that compare only with the teacher, such as angular, or add a labelled "
                f"set",
            )
        if loss.needs_labels and not loss.leaves_out_mixed:
            raise SpecError(
                key,
                f"{name} uses labels, which {images.unlabelled:,} images of data.train do not "
                f"have, and does not skip them (LossInputs.mean_over_labelled); leave out the "
                f"loss, or the images",
            )
    if all(loss.needs_labels or not loss.needs_teacher for loss in losses.values()):
        where = in_words(stage)
        yield Notice(
            f"unlabelled: {where}",
            f"no loss of {where} learns anything from the {images.unlabelled:,} images of "
            "data.train without a label; add a loss that compares only with the teacher, such as "
            "angular, or leave the images out",
        )
