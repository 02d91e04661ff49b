"""Center loss: Wen et al., 2016, Eq. 2 to 4. Raw embeddings near the mean of their identity's."""

import torch
from torch import Tensor, nn

from distill.losses.all_gather import gather_rows
from distill.losses.inputs import LossInputs, at_least_float32
from distill.losses.registry import register
from distill.losses.settings import CenterSettings


@register("center")
class Center(nn.Module):
    """Half the squared distance of embeddings to their identity's centre, averaged over the batch.

    These centres are no parameter, and not those of the heads: they follow the embeddings, of all
    ranks, by a rule of their own, and start at 0.
    """

    means: Tensor

    def __init__(self, settings: CenterSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.rate = settings.rate
        self.register_buffer("means", torch.zeros(identities, embedding))

    def forward(self, inputs: LossInputs) -> Tensor:
        embeddings = at_least_float32(inputs.embeddings)
        before = self.means[inputs.labels]
        if self.training:
            everywhere = gather_rows(embeddings.detach())
            self._follow(everywhere.to(before.dtype), gather_rows(inputs.labels))
        return (embeddings - before).square().sum(dim=1).mean() / 2.0

    def _follow(self, embeddings: Tensor, labels: Tensor) -> None:
        """Eq. 4: a centre moves by ``rate * sum(x - c) / (1 + n)`` over its n images."""
        present, places, counts = labels.unique(return_inverse=True, return_counts=True)
        differences = embeddings - self.means[labels]
        sums = torch.zeros_like(self.means[present]).index_add_(0, places, differences)
        self.means[present] += self.rate * sums / (1.0 + counts[:, None])
