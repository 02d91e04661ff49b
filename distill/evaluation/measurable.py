"""Checks, before a network runs, which figures a set can measure, from its labels and files."""

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.pairs import VerificationPairs
from distill.evaluation.all_pairs import MAXIMUM_KEPT
from distill.evaluation.rates import Rate, plan_rates
from distill.evaluation.verification import why_no_folds


def why_no_accuracy(pairs: VerificationPairs) -> str | None:
    """Why the set gives no ten-fold accuracy and how to fix that; None if it gives one."""
    return why_nothing_differs(pairs) or why_no_folds(pairs.same)


def why_nothing_differs(pairs: VerificationPairs) -> str | None:
    """Why no network could tell its pairs apart; None if there are at least two distinct images."""
    if len(set(pairs.images)) > 1:
        return None
    return f"its {len(pairs.images):,} images are all the same file; make the set again"


def check_measurable(pairs: VerificationPairs) -> None:
    """Raise ``UserError`` if the set gives neither an accuracy nor a TAR at any FAR."""
    reason = why_no_accuracy(pairs)
    if reason is None or (why_nothing_differs(pairs) is None and _gives_a_rate(pairs)):
        return
    raise UserError(
        f"nothing can be measured with this set of pairs: {reason} (`curate pairs` makes a "
        "better one)"
    )


def check_all_labelled(images: ImageSet) -> None:
    """Raise ``UserError`` if an image has no label."""
    if images.unlabelled:
        raise UserError(
            f"{images.unlabelled:,} of its {len(images):,} images have no label, so it is "
            "unknown which pairs are genuine; evaluate a view of the labelled ones"
        )


def check_all_pairs(images: ImageSet) -> None:
    """Raise ``UserError`` if an image is unlabelled or the pairs give no TAR at any FAR."""
    check_all_labelled(images)
    rates = planned_rates(images)
    if all(rate.reason is not None for rate in rates):
        raise UserError(f"no TAR can be measured at any FAR: {rates[0].reason}")


def planned_rates(each: VerificationPairs | ImageSet) -> list[Rate]:
    """Every FAR, and the reason if the set cannot measure it."""
    if isinstance(each, VerificationPairs):
        genuine = int(each.same.sum())
        return plan_rates(genuine, len(each) - genuine)
    sizes = np.diff(each.offsets)
    genuine = int(np.sum(sizes * (sizes - 1) // 2))
    return plan_rates(genuine, len(each) * (len(each) - 1) // 2 - genuine, MAXIMUM_KEPT)


def _gives_a_rate(pairs: VerificationPairs) -> bool:
    return any(rate.reason is None for rate in planned_rates(pairs))
