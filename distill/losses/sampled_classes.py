"""Random choice of the classes that a loss uses in a step, where all would be too many."""

import torch
from torch import Tensor, nn

from distill.losses.collectives import own_rows
from distill.ranks import world_size


class SampledClasses(nn.Module):
    """Samples ``wanted`` distinct classes per call in training, different ones on every rank.

    The seed is the number of calls, which is saved with the weights, so a resumed training samples
    the same classes as an uninterrupted one.
    """

    calls: Tensor

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted = wanted
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, count: int, device: torch.device) -> Tensor:
        """int64 [min(wanted, count)] of ``count`` classes on ``device``, in ascending order."""
        if self.wanted >= count:
            return torch.arange(count, device=device)
        seed = int(self.calls) * world_size() + own_rows(1).start
        if self.training:
            self.calls += 1
        random = torch.Generator().manual_seed(seed)
        return torch.randperm(count, generator=random)[: self.wanted].to(device)
