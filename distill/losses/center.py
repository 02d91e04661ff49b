"""Center loss: Wen et al., 2016, Eq. 2 to 4. Pulls raw embeddings to the mean of their identity."""

from typing import Any

import torch
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, at_least_float32, register
from distill.losses.settings import CenterSettings


@register("center")
class Center(Loss):
    """Half the squared distance of raw embeddings to the mean embedding of their identity::

        loss = weight * mean over images of  |x - c_y|^2 / 2
        c_k = c_k + rate * (sum over images of identity k of (x - c_k)) / (1 + n_k)

    for the n_k images of identity k in the batch of all ranks. The means are a buffer, separate
    from the class weights of the heads. They start at 0 and are updated in training mode only.

    Args:
        identities, embedding: the shape of the means.
        rate: the step size of the means; default 0.5; the paper's alpha.
        weight: default 0.003; the paper's lambda.

    Example:
        >>> loss = Center(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32, requires_grad=True), torch.arange(8)).backward()
    """

    settings: CenterSettings
    means: Tensor

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        self.register_buffer("means", torch.zeros(self.shape))

    def formula(self, inputs: LossInputs) -> Tensor:
        embeddings = at_least_float32(inputs.embeddings)
        before = self.means[inputs.labels]
        if self.training:
            everywhere = inputs.all_labelled(embeddings.detach())
            self._follow(everywhere.to(before.dtype), inputs.all_labelled(inputs.labels))
        return inputs.mean_over_labelled((embeddings - before).square().sum(dim=1)) / 2.0

    def _follow(self, embeddings: Tensor, labels: Tensor) -> None:
        """Eq. 4: move each centre by ``rate * sum(x - c) / (1 + n)`` over its n images."""
        present, places, counts = labels.unique(return_inverse=True, return_counts=True)
        differences = embeddings - self.means[labels]
        sums = torch.zeros_like(self.means[present]).index_add_(0, places, differences)
        self.means[present] += self.settings.rate * sums / (1.0 + counts[:, None])
