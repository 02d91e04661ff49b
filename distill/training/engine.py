"""The interface between the loop and the optimisation step, and what all engines share.

All engines save and load the same kind of state, so a training can continue with another engine,
ZeRO stage or number of ranks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from distill.training.data import Batch
from distill.training.learner import Learner

STEP = "step"
"""AdamW's update count of a parameter: a scalar, always on the CPU."""
Shapes = Mapping[str, torch.Size]
EngineState = dict[str, Any]
"""``learner``: the state dict; ``optimiser``: {key: {parameter name: tensor}}."""


@dataclass(frozen=True)
class StepReport:
    """Results of a step; tensors on the device, so that nothing waits for them.

    ``losses`` are those of this rank's share of the batch. ``gradient_norm`` is that of the whole
    batch before clipping; ``layer_norms`` are the norms by parameter (none with ZeRO).
    """

    losses: dict[str, Tensor]
    gradient_norm: Tensor
    layer_norms: dict[str, Tensor]


class Engine(Protocol):
    """Performs optimisation steps; saves and restores everything that the next step depends on."""

    learner: Learner
    device: torch.device

    def step(self, batch: Batch, learning_rate: float) -> StepReport:
        """Forward, backward and update with this rank's share of the batch."""
        ...

    @property
    def shapes(self) -> Shapes:
        """The full shapes of the learner's parameters."""
        ...

    def state(self) -> EngineState:
        """Weights and optimiser state. Every rank must call it; complete on rank 0."""
        ...

    def load(self, state: EngineState) -> None:
        """Restore the result of ``state``, on every rank."""
        ...

    def load_optimiser(self, state: EngineState) -> None:
        """Restore the optimiser only; a parameter without saved state starts fresh."""
        ...

    def finish(self) -> None:
        """After the last step, on every rank: make the learner complete on rank 0."""
        ...


def mean_losses(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean losses of equal micro-batches, detached."""
    return {name: torch.stack([part[name].detach() for part in parts]).mean() for name in parts[0]}


def gradient_norms(learner: Learner) -> dict[str, Tensor]:
    """The norm of each parameter's gradient, by name."""
    named = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
    return dict(zip(named, torch._foreach_norm(list(named.values())), strict=True))


def leave_out_unless_finite(learner: Learner, total: Tensor) -> None:
    """Zero all gradients if their norm is not finite, so that no weight becomes non-finite.

    Runs on the device without waiting for it; ``DivergenceCheck`` reports the problem later.
    """
    not_finite = ~total.isfinite()
    for parameter in learner.parameters():
        if parameter.grad is not None:
            parameter.grad.masked_fill_(not_finite, 0.0)


def total_norm(layer_norms: Mapping[str, Tensor]) -> Tensor:
    """The norm of all gradients together."""
    return torch.linalg.vector_norm(torch.stack(list(layer_norms.values())))


def optimiser_state(optimiser: torch.optim.Optimizer, learner: Learner) -> EngineState:
    """The optimiser's tensors by parameter, for the parameters that have been updated."""
    by_key: dict[str, dict[str, Tensor]] = {}
    for name, parameter in learner.named_parameters():
        for key, value in optimiser.state[parameter].items() if parameter.requires_grad else ():
            if value is not None:
                by_key.setdefault(key, {})[name] = value
    return by_key


def load_optimiser_state(
    state: EngineState, optimiser: torch.optim.Optimizer, learner: Learner
) -> None:
    """Restore the result of ``optimiser_state``."""
    parameters = dict(learner.named_parameters())
    for key, by_name in state.items():
        for name, value in by_name.items():
            held = value if key == STEP else parameters[name]
            optimiser.state[parameters[name]][key] = torch.empty_like(held).copy_(value)


def parameter_shapes(learner: Learner) -> Shapes:
    """The shape of each parameter, by name."""
    return {name: parameter.shape for name, parameter in learner.named_parameters()}


def optimiser_state_that_fits(before: EngineState, shapes: Shapes) -> EngineState:
    """The optimiser's part of another learner's state, for the parameters whose name and shape
    match this learner's."""
    same = {name for name, value in before["learner"].items() if shapes.get(name) == value.shape}
    return {
        key: {name: value for name, value in by_name.items() if name in same}
        for key, by_name in before["optimiser"].items()
    }
