"""The exponential moving average of a network's weights over training steps.

Polyak and Juditsky, 1992. The first steps use a lower decay, ``(1 + n) / (10 + n)`` after n steps
as in TensorFlow, so that the average soon forgets the initial weights. With this decay timm's
``ModelEmaV3`` gives bit-identical results, but it imports all of timm and traverses every state
dict once more per step.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of the weights and batch statistics of ``network``, on its device.

    Create it after the engine has moved the network to its device. ``weights`` is the average as a
    state dict; integer entries (batch counters) are those of the network.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        # keep_vars returns the live parameters, so values that an engine assigns later are seen.
        moving = network.state_dict(keep_vars=True)
        self.weights = {name: value.detach().clone() for name, value in moving.items()}
        pairs = [(self.weights[name], value) for name, value in moving.items()]
        self._floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Include the weights after a step, which ``steps`` earlier ones preceded."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        averages, moving = zip(*self._floating, strict=True)
        torch._foreach_lerp_(averages, moving, 1.0 - decay)
        for ours, theirs in self._counts:
            ours.copy_(theirs)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Continue from the ``weights`` of a checkpoint."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
