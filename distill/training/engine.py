"""The seam between the loop and what moves the weights, and what all engines share.

All give and take one kind of state, so a training may go on with the other engine, another ZeRO
stage or another number of ranks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from distill.training.data import Batch
from distill.training.learner import Learner

STEP = "step"
"""AdamW's count of a parameter's updates: a scalar, always on the CPU."""
Shapes = Mapping[str, torch.Size]
EngineState = dict[str, Any]
"""``learner``: the state dict; ``optimiser``: {key: {name of the parameter: tensor}}."""


@dataclass(frozen=True)
class StepReport:
    """What a step was like; tensors on the device, so that nobody waits for them.

    ``losses`` are of this rank's share of the batch; ``gradient_norm`` is that of the whole batch,
    before clipping; ``layer_norms`` are its parts by parameter (none with ZeRO).
    """

    losses: dict[str, Tensor]
    gradient_norm: Tensor
    layer_norms: dict[str, Tensor]


class Engine(Protocol):
    """One optimisation step, and giving and taking all that the next step depends on."""

    learner: Learner
    device: torch.device

    def step(self, batch: Batch, learning_rate: float) -> StepReport:
        """Forward, backward and update with this rank's share."""
        ...

    @property
    def shapes(self) -> Shapes:
        """Of the learner's parameters, each as a whole."""
        ...

    def state(self) -> EngineState:
        """Weights and optimiser. Every rank has to ask; what rank 0 gets is whole."""
        ...

    def load(self, state: EngineState) -> None:
        """Take back what ``state`` gave, on every rank."""
        ...

    def load_optimiser(self, state: EngineState) -> None:
        """Take back its optimiser alone; a parameter that is not named starts afresh."""
        ...

    def finish(self) -> None:
        """After the last step, on every rank: on rank 0 the learner is whole from now on."""
        ...


def mean_losses(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The losses of equal micro-batches as those of the batch, detached."""
    return {name: torch.stack([part[name].detach() for part in parts]).mean() for name in parts[0]}


def gradient_norms(learner: Learner) -> dict[str, Tensor]:
    """The norm of each parameter's gradient, by name."""
    named = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
    return dict(zip(named, torch._foreach_norm(list(named.values())), strict=True))


def leave_out_unless_finite(learner: Learner, total: Tensor) -> None:
    """Make all gradients 0 where their norm is not a number, so that no weight ever takes one.

    Done on the device, which nobody waits for; ``DivergenceCheck`` says so later.
    """
    not_finite = ~total.isfinite()
    for parameter in learner.parameters():
        if parameter.grad is not None:
            parameter.grad.masked_fill_(not_finite, 0.0)


def total_norm(layer_norms: Mapping[str, Tensor]) -> Tensor:
    """The norm of all gradients together."""
    return torch.linalg.vector_norm(torch.stack(list(layer_norms.values())))


def optimiser_state(optimiser: torch.optim.Optimizer, learner: Learner) -> EngineState:
    """The optimiser's tensors by parameter; of those that have moved."""
    by_key: dict[str, dict[str, Tensor]] = {}
    for name, parameter in learner.named_parameters():
        for key, value in optimiser.state[parameter].items() if parameter.requires_grad else ():
            if value is not None:
                by_key.setdefault(key, {})[name] = value
    return by_key


def load_optimiser_state(
    state: EngineState, optimiser: torch.optim.Optimizer, learner: Learner
) -> None:
    """Give the optimiser what ``optimiser_state`` took."""
    parameters = dict(learner.named_parameters())
    for key, by_name in state.items():
        for name, value in by_name.items():
            held = value if key == STEP else parameters[name]
            optimiser.state[parameters[name]][key] = torch.empty_like(held).copy_(value)


def parameter_shapes(learner: Learner) -> Shapes:
    """Of each parameter, by name."""
    return {name: parameter.shape for name, parameter in learner.named_parameters()}


def optimiser_state_that_fits(before: EngineState, shapes: Shapes) -> EngineState:
    """The optimiser's part of the state of an engine with another learner: that of the parameters
    that are called and shaped as here."""
    same = {name for name, value in before["learner"].items() if shapes.get(name) == value.shape}
    return {
        key: {name: value for name, value in by_name.items() if name in same}
        for key, by_name in before["optimiser"].items()
    }
