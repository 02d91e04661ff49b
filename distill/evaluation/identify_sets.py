"""One-to-many identification of the people in a set of images; the result is JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.progress import Progress, shifted
from distill.evaluation.identification import among_distractors, closed_set, open_set, search
from distill.evaluation.set_features import SetFeatures

SIZES = (10, 100, 1000, 10_000, 100_000, 1_000_000)
"""Numbers of distractors, as in MegaFace."""


def identify(
    answers: SetFeatures,
    probes: ImageSet,
    gallery: ImageSet | None = None,
    distractors: ImageSet | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search for ``probes`` in ``gallery``, to which ``distractors`` (other people) are added.

    Without a gallery, the first image of each identity with several images is enrolled and the rest
    are probes; people with one image are unenrolled probes. Returns JSON with ``closed_set``,
    ``open_set`` and, if there are distractors, ``among_distractors``; see
    `distill.evaluation.identification`. That measure searches each image of a person for another,
    so ``among_distractors`` is a ``reason`` if no person among the probes has two images.
    """
    check_sets(probes, gallery, distractors)
    sets = [each for each in (probes, gallery, distractors) if each is not None]
    for each in sets:
        answers.check(each)
    embedded = _embed_all(answers, sets, progress)
    features, labels = next(embedded), people_of(probes)
    if gallery is None:
        first, others = enrolment(labels)
        searched, searched_labels = features[first], labels[first]
        probe_features, probe_labels = features[others], labels[others]
    else:
        searched, searched_labels = next(embedded), people_of(gallery)
        probe_features, probe_labels = features, labels
    report: dict[str, Any] = {
        "embedder": answers.embedder,
        "preprocessing": answers.preprocessing,
        "mirror": "sum",
        "probes": {"set": probes.name, "digest": probes.digest, "images": len(probe_features)},
        "gallery": {
            "set": probes.name if gallery is None else gallery.name,
            "digest": probes.digest if gallery is None else gallery.digest,
            "images": len(searched),
        },
    }
    if distractors is not None:
        others_features = next(embedded)
        report["distractors"] = {
            "set": distractors.name,
            "digest": distractors.digest,
            "images": len(distractors),
        }
        report["among_distractors"] = (
            among_distractors(features, labels, others_features, SIZES)
            if _has_several_images(probes)
            else {"reason": f"no identity of {probes.name} has two images"}
        )
        nobody = np.full(len(others_features), -1, searched_labels.dtype)
        searched = np.concatenate([searched, others_features])
        searched_labels = np.concatenate([searched_labels, nobody])
    found = search(probe_features, probe_labels, searched, searched_labels)
    return {**report, "closed_set": closed_set(found), "open_set": open_set(found)}


def check_sets(probes: ImageSet, gallery: ImageSet | None, distractors: ImageSet | None) -> None:
    """Raise `UserError` if the sets cannot be searched, before a network runs."""
    if (probes.labels < 0).all():
        raise UserError(f"{probes.name}: no image has a label; give probes of known people")
    if gallery is not None and gallery.store.digest != probes.store.digest:
        raise UserError(
            f"{probes.name} and {gallery.name} are of different stores, whose labels cannot be "
            f"compared; give two views of one store"
        )
    if gallery is not None and np.isin(probes.rows, gallery.rows).any():
        shared = int(np.isin(probes.rows, gallery.rows).sum())
        raise UserError(
            f"{shared:,} images of {probes.name} are also in the gallery {gallery.name}, and would "
            "find themselves; give views without common images"
        )
    if gallery is not None and not np.isin(_known_people(probes), _known_people(gallery)).any():
        raise UserError(
            f"{probes.name} and the gallery {gallery.name} have no person in common; give views "
            "with images of the same people"
        )
    if gallery is None and not _has_several_images(probes):
        raise UserError(
            f"{probes.name}: no identity has two images, one to enrol and one to search; give "
            "--gallery"
        )
    if (
        distractors is not None
        and distractors.store.digest == probes.store.digest
        and np.isin(_known_people(probes), people_of(distractors)).any()
    ):
        raise UserError(
            f"{distractors.name} has people of {probes.name}; distractors are other people"
        )


def search_themselves(features: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """``closed_set`` and ``open_set`` of images [N], with the first of each person enrolled.

    Empty if no person has two images.
    """
    first, others = enrolment(labels)
    if not len(first):
        return {}
    found = search(features[others], labels[others], features[first], labels[first])
    return {"closed_set": closed_set(found), "open_set": open_set(found)}


def enrolment(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the enrolled images and of the probes among images [N].

    The first image of each identity with several images is enrolled; all others are probes,
    including those without a label.
    """
    people, first, counts = np.unique(labels, return_index=True, return_counts=True)
    enrolled = np.sort(first[(counts > 1) & (people >= 0)])
    return enrolled, np.setdiff1d(np.arange(len(labels)), enrolled)


def people_of(images: ImageSet) -> np.ndarray:
    """The source label of each image, int64 [N]; -1 for an image without a label.

    Source labels mean the same in all views of a store.
    """
    labels = np.asarray(images.labels)
    return np.where(labels < 0, -1, images.source_labels[labels])


def _known_people(images: ImageSet) -> np.ndarray:
    people = people_of(images)
    return people[people >= 0]


def _has_several_images(images: ImageSet) -> bool:
    """Whether an identity has at least two images."""
    people = _known_people(images)
    return len(np.unique(people)) < len(people)


def _embed_all(
    answers: SetFeatures, sets: Sequence[ImageSet], progress: Progress | None
) -> Iterator[np.ndarray]:
    """Unit features of each set; ``progress`` counts images over all sets."""
    done, total = 0, sum(map(len, sets))
    for images in sets:
        yield answers.features(images, shifted(progress, done, total))
        done += len(images)
