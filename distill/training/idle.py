"""Detects losses and gradients that have no effect: exactly 0, or constant.

Every step records the smallest and the largest values on the device. They are read when the losses
are read anyway, so no step waits for them.
"""

import torch
from torch import Tensor

from distill.losses import LOSSES
from distill.notices import Notice
from distill.training import distributed
from distill.training.engine import StepReport
from distill.training.partial_fc import NAME as CENTRES

LEAST_STEPS = 10
"""With fewer steps nothing is reported, unless the training has no more."""
_TOTAL, _GRADIENT = "total", "gradient"


class IdleCheck:
    """Examines the steps since the last look; ``steps`` is the length of the whole training."""

    def __init__(self, steps: int) -> None:
        self._wanted = min(LEAST_STEPS, steps)
        self._names: list[str] = []
        self._seen = 0
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def add(self, report: StepReport) -> None:
        """Record a step."""
        values = {**report.losses, _GRADIENT: report.gradient_norm}
        if CENTRES in report.layer_norms:
            values[CENTRES] = report.layer_norms[CENTRES]
        self._names = list(values)
        now = torch.stack([value.detach().float() for value in values.values()])
        self._low = now if self._low is None else torch.minimum(self._low, now)
        self._high = now if self._high is None else torch.maximum(self._high, now)
        self._seen += 1

    def look(self) -> list[Notice]:
        """What was constant in all steps since the last look, on every rank; call it on every rank.

        Returns nothing while there are too few steps.
        """
        if self._seen < self._wanted or self._low is None or self._high is None:
            return []
        low, high = distributed.range_over_ranks(self._low, self._high)
        self._seen, self._low, self._high = 0, None, None
        if self._wanted < 2:  # a single step is always constant
            return []
        return [
            _notice(name, least)
            for name, least, most in zip(self._names, low, high, strict=True)
            if least == most and name != _TOTAL
        ]


def _notice(name: str, value: float) -> Notice:
    """The notice about a ``value`` that never changed."""
    always = "in every step between two lines of the log"
    if name == CENTRES:
        text = f"the gradient of the class weights was {value:g} {always}: they do not learn"
    elif name == _GRADIENT:
        text = f"the gradient was {value:g} {always}: the network does not learn"
    elif value != 0:
        text = f"the loss {name!r} was {value:g} {always}: nothing is learned from it"
    elif name in LOSSES and LOSSES[name].settings.needs.positives:
        text = (
            f"the loss {name!r} was exactly 0 {always}: no triplet violated its margin, so nothing "
            f"is learned from it; give batches several images of an identity "
            '(sampler = { kind = "pk", images = 4 }), or the loss a larger margin'
        )
    else:
        text = f"the loss {name!r} was exactly 0 {always}: nothing is learned from it"
    return Notice(f"idle: {name}", text)
