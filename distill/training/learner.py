"""Network and losses as one module, the unit that an engine trains."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from distill.losses import LossInputs, WeightedLosses
from distill.training.config import TrainSettings
from distill.training.data import Batch
from distill.training.remembering import Remembered
from teachers.networks import body_parameters, head_modules, head_parameters
from teachers.preprocessing import Preprocessing


class Learner(nn.Module):
    """Maps uint8 batches to losses; normalises pixels on its device.

    With ``bf16`` the network computes in bfloat16 where that is safe (autocast); weights, losses
    and class weights stay float32. With ``frozen`` the network's body does not change.
    ``remembered`` adds its loss, "remember", to ``losses``.
    """

    def __init__(
        self,
        network: nn.Module,
        losses: WeightedLosses,
        preprocessing: Preprocessing,
        bf16: bool = False,
        frozen: bool = False,
        remembered: Remembered | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.frozen, self.remembered = frozen, remembered
        if frozen:
            for parameter in body_parameters(network):
                parameter.requires_grad = False
        self.losses = losses
        self.bf16 = bf16
        self.reverse_colours = preprocessing.colour == "BGR"
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(preprocessing.mean), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std), persistent=False)

    def forward(
        self,
        pixels: Tensor,
        labels: Tensor,
        teacher: Tensor | None,
        label_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``pixels`` uint8 RGB [B, H, W, 3] on the device; see ``LossInputs`` for the rest."""
        ordered = pixels.flip(-1) if self.reverse_colours else pixels
        # A permuted [H, W, C] buffer has the memory layout that channels_last kernels expect.
        images = ((ordered.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            embeddings = self.network(images)
            old = None if self.remembered is None else self.remembered.embeddings(images)
        inputs = LossInputs(embeddings.float(), labels, teacher, label_weights=label_weights)
        losses = self.losses(inputs)
        if self.remembered is None or old is None:
            return losses
        return self.remembered.add(losses, inputs, old)

    def train(self, mode: bool = True) -> "Learner":
        super().train(mode)
        if self.frozen:
            self.network.eval()  # train mode would change batch statistics and thus embeddings
            for part in head_modules(self.network):
                part.train(mode)
        return self


RATE = "rate"
"""Key of the learning-rate factor in a parameter group of the optimiser."""
Arguments = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def to_device(batch: Batch, device: torch.device) -> Arguments:
    """The arguments of ``Learner.forward``."""

    def there(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device)

    teacher = None if batch.teacher is None else there(batch.teacher)
    weights = None if batch.label_weights is None else there(batch.label_weights)
    return there(batch.pixels), there(batch.labels), teacher, weights


def micro_batches(arguments: Arguments, count: int) -> list[Arguments]:
    """Split the batch into ``count`` equal parts for gradient accumulation."""

    def parts(values: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * count if values is None else values.chunk(count)

    pixels, labels, teacher, weights = arguments
    shares = pixels.chunk(count), labels.chunk(count), parts(teacher), parts(weights)
    return list(zip(*shares, strict=True))


def set_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of the next step, times the factor of each group."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group[RATE]


def optimiser(learner: Learner, settings: TrainSettings) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, with the weight decay groups of the papers.

    Weights decay; biases, norms and PReLU slopes (one dimension) do not. Layers after the network's
    global operator and the class weights decay with ``head_weight_decay``. Source:
    MobileFaceNets, section IV.A. The body learns at ``body_learning_rate`` times the rate.
    """
    decays = {"body": settings.weight_decay, "head": settings.weight_decay, "free": 0.0}
    if settings.head_weight_decay is not None:
        decays["head"] = settings.head_weight_decay
    slow = settings.body_learning_rate != 1
    if slow:
        decays["free in body"] = 0.0
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in decays}
    head = {*head_parameters(learner.network), *learner.losses.parameters()}
    for parameter in learner.parameters():
        if parameter.requires_grad:
            kind = "head" if parameter in head else "body"
            if parameter.ndim <= 1:
                kind = "free in body" if slow and kind == "body" else "free"
            groups[kind].append(parameter)
    parameters = [
        {
            "params": groups[name],
            "weight_decay": decay,
            RATE: settings.body_learning_rate if name.endswith("body") else 1.0,
        }
        for name, decay in decays.items()
        if groups[name] or not slow
    ]
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.learning_rate)
    assert settings.momentum is not None
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)
