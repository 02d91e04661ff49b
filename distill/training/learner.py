"""Network and losses as one module, which is what an engine trains."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from distill.losses import LossInputs, WeightedLosses
from distill.training.config import TrainSettings
from distill.training.data import Batch
from teachers.preprocessing import Preprocessing


class Learner(nn.Module):
    """uint8 batches in, losses out; normalises the pixels on the device it runs on."""

    def __init__(
        self, network: nn.Module, losses: WeightedLosses, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        self.network = network
        self.losses = losses
        self.reverse_colours = preprocessing.colour == "BGR"
        self.register_buffer("mean", torch.tensor(preprocessing.mean), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std), persistent=False)

    def forward(self, pixels: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        """``pixels`` uint8 RGB [B, H, W, 3] on the device; see ``LossInputs`` for the rest."""
        ordered = pixels.flip(-1) if self.reverse_colours else pixels
        # Height, width, channel in memory is the layout that channels_last kernels want.
        images = ((ordered.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        return self.losses(LossInputs(self.network(images), labels, teacher))


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """The arguments of ``Learner.forward``."""
    teacher = None if batch.teacher is None else torch.from_numpy(batch.teacher).to(device)
    pixels, labels = torch.from_numpy(batch.pixels), torch.from_numpy(batch.labels)
    return pixels.to(device), labels.to(device), teacher


def optimiser(learner: Learner, settings: TrainSettings) -> torch.optim.SGD:
    """SGD with momentum; weights decay, but not biases, norms and slopes (one dimension)."""

    def trainable(dimensions: bool) -> Iterator[nn.Parameter]:
        return (p for p in learner.parameters() if p.requires_grad and (p.ndim > 1) == dimensions)

    groups = [
        {"params": list(trainable(True)), "weight_decay": settings.weight_decay},
        {"params": list(trainable(False)), "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
