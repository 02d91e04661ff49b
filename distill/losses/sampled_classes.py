"""Which classes a loss looks at in this step, where all would be too many."""

import torch
from torch import Tensor, nn

from distill.losses.collectives import own_rows
from distill.ranks import world_size


class SampledClasses(nn.Module):
    """Samples ``wanted`` different classes at every call in training; others on every rank.

    The number of the call is kept with the weights and is the seed, so a resumed training samples
    what an uninterrupted one would.
    """

    calls: Tensor

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted = wanted
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, count: int, device: torch.device) -> Tensor:
        """int64 [min(wanted, count)] on ``device``, of ``count`` classes; all in their order."""
        if self.wanted >= count:
            return torch.arange(count, device=device)
        seed = int(self.calls) * world_size() + own_rows(1).start
        if self.training:
            self.calls += 1
        random = torch.Generator().manual_seed(seed)
        return torch.randperm(count, generator=random)[: self.wanted].to(device)
