"""Checks that a job's evaluation sets are readable and can give the scores that it needs."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from pydantic import TypeAdapter, ValidationError

from curation.errors import UserError
from curation.images import check_pixels
from curation.joined_stores import count_common
from curation.pairs import VerificationPairs
from curation.views import ImageSet
from curation.workspace import Workspace
from distill.evaluation.measurable import (
    check_all_labelled,
    check_measurable,
    why_no_accuracy,
)
from distill.evaluation.protocols.protocol import open_named
from distill.evaluation.set_features import check_embeddable
from distill.export.calibration import LEAST
from distill.export.config import PrintableName
from distill.export.exporter import exporters
from distill.notices import Notice
from distill.spec import JobSpec
from distill.spec_checks import evaluation_key, evaluation_sets, selection_sets, trainings
from distill.spec_errors import SpecError

EvaluationSet = VerificationPairs | ImageSet
_COMPARED = 5000
"""Maximum number of images compared byte by byte: equal checksums of different ones are rare."""


def open_sets(spec: JobSpec, workspace: Workspace) -> dict[str, EvaluationSet]:
    """Every set of ``data.evaluate`` by its name there; ``UserError`` if one cannot be read."""
    sets: dict[str, EvaluationSet] = {}
    for name, source in evaluation_sets(spec, workspace).items():
        with _naming(spec, name):
            sets[name] = source.open()
    return sets


def check_protocols(spec: JobSpec, sets: Mapping[str, EvaluationSet]) -> None:
    """Raise ``UserError`` if the files of a protocol of ``evaluate.protocols`` are missing or bad,
    or if one of ``sets`` has its name."""
    names = {each.name: name for name, each in sets.items()}
    for index, protocol in enumerate(spec.evaluate.protocols):
        try:
            found = open_named(protocol)
            found.faces.check_there()
            check_embeddable(found)
            if (taken := names.get(found.name)) is not None:
                raise UserError(
                    f"data.evaluate {taken!r} is also called {found.name!r}, so their scores could "
                    "not be told apart; rename that set, or leave one out"
                )
        except UserError as error:
            raise SpecError(("evaluate", "protocols", index), str(error)) from None


def check_int8(spec: JobSpec, images: ImageSet, sets: Mapping[str, EvaluationSet]) -> None:
    """Raise ``SpecError`` if an int8 format lacks faces for calibration, or a set to measure its
    accuracy."""
    named = [name for name in spec.export.formats if exporters()[name].calibrated]
    if not named:
        return
    lack = None
    if len(images) < LEAST:
        lack = f"at least {LEAST} training images, and data.train has {len(images)}"
    elif not sets:
        lack = "a set to judge it on, and data.evaluate has none"
    if lack is not None:
        reason = f"{named[0]} takes {lack}; leave it out of the formats"
        raise SpecError(("export", "formats"), reason)


def check_sets(
    spec: JobSpec, workspace: Workspace, sets: Mapping[str, EvaluationSet], images: ImageSet
) -> Iterator[Notice]:
    """Raise ``UserError`` if a set gives no score, or lacks a score that the job needs.

    Every image of a pair set is decoded once, but only some of a store or view, which may be large.
    Returns notices about sets that share images with the training ``images``.
    """
    _check_names(spec, sets)
    compared = _compared(spec, workspace)
    for name, each in sets.items():
        with _naming(spec, name):
            if isinstance(each, VerificationPairs):
                _check_pairs(each, name in compared)
            else:
                check_all_labelled(each)
                check_embeddable(each)
        if shared := _shared(each, images):
            yield Notice(
                f"seen: {name}",
                f"{shared:,} of the {_length(each):,} images of data.evaluate {name!r} are images "
                f"of data.train {spec.data.name!r}: scores on it do not generalise to other people",
            )


@contextmanager
def _naming(spec: JobSpec, name: str) -> Iterator[None]:
    """Errors in the block name this set."""
    try:
        yield
    except UserError as error:
        raise SpecError(evaluation_key(spec, name), f"{name!r}: {error}") from None


def _check_names(spec: JobSpec, sets: Mapping[str, EvaluationSet]) -> None:
    """Set names must be usable as file names of reports and thresholds."""
    named: dict[str, str] = {}
    for name, each in sets.items():
        if each.name in named:
            raise SpecError(
                evaluation_key(spec, name),
                f"{named[each.name]!r} and {name!r} are both called {each.name!r}, "
                "so their scores could not be told apart; rename one, or leave it out",
            )
        named[each.name] = name
        try:
            TypeAdapter(PrintableName).validate_python(each.name)
        except ValidationError:
            raise SpecError(
                evaluation_key(spec, name),
                f"{each.name[:80]!r} is not a name for a set; allowed: up to 200 printable "
                "characters",
            ) from None


def _compared(spec: JobSpec, workspace: Workspace) -> set[str]:
    """The sets whose accuracy selects weights or candidates."""
    chosen = set(selection_sets(spec, workspace)) if spec.generations.scored else set()
    if any(settings.evaluate_every is not None for settings in trainings(spec).values()):
        chosen |= set(evaluation_sets(spec, workspace))
    return chosen


def _check_pairs(pairs: VerificationPairs, compared: bool) -> None:
    check_measurable(pairs)
    reason = why_no_accuracy(pairs)
    if compared and reason is not None:
        raise UserError(
            f"it gives no accuracy, which evaluate_every and the choice among candidates "
            f"compare: {reason}"
        )
    first = {image: number for number, image in reversed(list(enumerate(pairs.images)))}
    for image, number in first.items():
        check_pixels(image, f"image {number}")


def _length(each: EvaluationSet) -> int:
    return len(each.images) if isinstance(each, VerificationPairs) else len(each)


def _shared(each: EvaluationSet, images: ImageSet) -> int:
    """The number of images of the set that are byte-identical to training images."""
    if not isinstance(each, VerificationPairs):
        return count_common(each, images)
    # The store has the checksum of every image, so hardly any image must be read.
    ours = np.array([zlib.crc32(image) for image in each.images], np.uint32)
    theirs = images.store.checksums[images.rows]
    # First filter by 24 bits: looking up a table is ten times faster than sorting.
    table = np.zeros(1 << 24, bool)
    table[ours >> 8] = True
    maybe = np.flatnonzero(table[theirs >> 8])
    places = maybe[np.isin(theirs[maybe], ours)][:_COMPARED]
    trained_on = set(images.read_many(places))
    return sum(image in trained_on for image in each.images)
