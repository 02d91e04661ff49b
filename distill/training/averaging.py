"""The average of a network's weights over the steps of its training.

Polyak and Juditsky, 1992, as an exponential moving average. In the first steps the decay is lower,
``(1 + n) / (10 + n)`` after n steps as in TensorFlow's, so that the average soon forgets the
weights that the training began with. timm's ``ModelEmaV3`` gives the same bits with this decay, but
imports all of timm and goes through every state dict once more at each step.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of the weights and batch statistics of ``network``, on its device.

    Make it when the engine has put the network where it is trained. ``weights`` is the average as a
    state dict; what is no floating-point number in it (counts of batches) is as in the network.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        # The parameters themselves: what an engine puts into them later is seen.
        moving = network.state_dict(keep_vars=True)
        self.weights = {name: value.detach().clone() for name, value in moving.items()}
        pairs = [(self.weights[name], value) for name, value in moving.items()]
        self._floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after a step that ``steps`` others went before."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        averages, moving = zip(*self._floating, strict=True)
        torch._foreach_lerp_(averages, moving, 1.0 - decay)
        for ours, theirs in self._counts:
            ours.copy_(theirs)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from ``weights`` of a checkpoint."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
