"""Plain PyTorch: one process, or several with DistributedDataParallel."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill.training import distributed
from distill.training.config import TrainSettings
from distill.training.data import Batch
from distill.training.engine import (
    EngineState,
    Shapes,
    StepReport,
    gradient_norms,
    leave_out_unless_finite,
    load_optimiser_state,
    mean_losses,
    optimiser_state,
    parameter_shapes,
    total_norm,
)
from distill.training.learner import Learner, micro_batches, optimiser, set_rate, to_device
from distill.training.partial_fc import NAME, partial_centres


class TorchEngine:
    """Runs on this rank's GPU if there is one, else on the CPU."""

    def __init__(self, learner: Learner, settings: TrainSettings) -> None:
        self.device = distributed.device()
        self.centres = partial_centres(learner.losses, settings, self.device)
        self.learner = learner.to(self.device).to(memory_format=torch.channels_last)
        self.optimiser = optimiser(learner, settings)
        self.clip, self.accumulate = settings.clip_gradient_norm, settings.accumulate
        if self.centres is not None and self.centres.sharded:
            # Each rank holds different rows, whose gradients are already complete.
            _leave_to_its_rank(learner, NAME)
        self._module = _distributed(learner) if distributed.world_size() > 1 else learner

    def step(self, batch: Batch, learning_rate: float) -> StepReport:
        set_rate(self.optimiser, learning_rate)
        self.optimiser.zero_grad(set_to_none=True)
        if self.centres is not None:
            self.centres.gather(batch.labels, self.optimiser.state)
        parts: list[dict[str, Tensor]] = []
        for arguments in micro_batches(to_device(batch, self.device), self.accumulate):
            last = len(parts) == self.accumulate - 1
            with nullcontext() if last else self._without_exchange():
                losses = self._module(*arguments)
                (losses["total"] / self.accumulate).backward()
            parts.append(losses)
        layers = gradient_norms(self.learner)
        if self.centres is not None:
            layers[NAME] = self.centres.whole_norm(layers[NAME])
        total = total_norm(layers)
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.learner.parameters(), self.clip, total)
        leave_out_unless_finite(self.learner, total)  # last: clipping by NaN makes even 0 NaN
        self.optimiser.step()
        if self.centres is not None:
            self.centres.scatter(self.optimiser.state)
        return StepReport(mean_losses(parts), total, layers)

    @property
    def shapes(self) -> Shapes:
        shapes = parameter_shapes(self.learner)
        return shapes if self.centres is None else {**shapes, NAME: self.centres.shape}

    def state(self) -> EngineState:
        state = {
            "learner": self.learner.state_dict(),
            "optimiser": optimiser_state(self.optimiser, self.learner),
        }
        if self.centres is None:
            return state
        return self.centres.complete(state, self.optimiser.state)

    def load(self, state: EngineState) -> None:
        learner = state["learner"]
        self.learner.load_state_dict(
            learner if self.centres is None else self.centres.load(learner)
        )
        self.load_optimiser(state["optimiser"])

    def load_optimiser(self, state: EngineState) -> None:
        if self.centres is not None:
            state = self.centres.load_optimiser(state)
        self.optimiser.state.clear()
        load_optimiser_state(state, self.optimiser, self.learner)

    def finish(self) -> None:
        if self.centres is not None:
            self.centres.finish()

    def _without_exchange(self) -> AbstractContextManager[None]:
        """Skip the gradient exchange for all but the last micro-batch."""
        module = self._module
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def _leave_to_its_rank(learner: Learner, parameter: str) -> None:
    """Exclude the parameter from DistributedDataParallel's averaging."""
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(learner, [parameter])


def _distributed(learner: Learner) -> nn.Module:
    gpus = [distributed.device()] if distributed.device().type == "cuda" else None
    module = DistributedDataParallel(learner, device_ids=gpus)
    # Synchronised statistics are equal on all ranks anyway, and rank 0 saves them.
    module.broadcast_buffers = False
    return module
