"""What a set of pairs can measure: known from its labels and files, before a network is asked."""

from curation.errors import UserError
from curation.pairs import VerificationPairs
from distill.evaluation.rates import plan_rates
from distill.evaluation.verification import why_no_folds


def why_no_accuracy(pairs: VerificationPairs) -> str | None:
    """Why the set gives no ten-fold accuracy, with what to do about it; None where it gives one."""
    return why_nothing_differs(pairs) or why_no_folds(pairs.same)


def why_nothing_differs(pairs: VerificationPairs) -> str | None:
    """Why no network could tell its pairs apart; None where there are at least two images."""
    if len(set(pairs.images)) > 1:
        return None
    return f"its {len(pairs.images)} images are all the same file; make the set again"


def check_measurable(pairs: VerificationPairs) -> None:
    """Raise ``UserError`` where the set gives neither an accuracy nor a TAR at any FAR."""
    reason = why_no_accuracy(pairs)
    if reason is None or (why_nothing_differs(pairs) is None and _gives_a_rate(pairs)):
        return
    raise UserError(
        f"nothing can be measured with this set of pairs: {reason} (`curate pairs` makes a "
        "better one)"
    )


def _gives_a_rate(pairs: VerificationPairs) -> bool:
    genuine = int(pairs.same.sum())
    return any(rate.reason is None for rate in plan_rates(genuine, len(pairs) - genuine))
