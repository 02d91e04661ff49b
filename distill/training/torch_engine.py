"""Plain PyTorch: one process, or several with DistributedDataParallel."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill.training import distributed
from distill.training.config import TrainSettings
from distill.training.data import Batch
from distill.training.engine import (
    State,
    StepReport,
    gradient_norms,
    load_optimiser_state,
    mean_losses,
    optimiser_state,
    total_norm,
)
from distill.training.learner import Learner, optimiser, pieces, to_device


class TorchEngine:
    """On the GPU of this rank where there is one, else the CPU."""

    def __init__(self, learner: Learner, settings: TrainSettings) -> None:
        self.device = distributed.device()
        self.learner = learner.to(self.device, memory_format=torch.channels_last)
        self.optimiser = optimiser(learner, settings)
        self.clip, self.accumulate = settings.clip_gradient_norm, settings.accumulate
        self._module = _distributed(learner) if distributed.rank_count() > 1 else learner

    def step(self, batch: Batch, rate: float) -> StepReport:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        parts: list[dict[str, Tensor]] = []
        for arguments in pieces(to_device(batch, self.device), self.accumulate):
            last = len(parts) == self.accumulate - 1
            with nullcontext() if last else self._without_exchange():
                losses = self._module(*arguments)
                (losses["total"] / self.accumulate).backward()
            parts.append(losses)
        layers = gradient_norms(self.learner)
        total = total_norm(layers)
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.learner.parameters(), self.clip, total)
        self.optimiser.step()
        return StepReport(mean_losses(parts), total, layers)

    def state(self) -> State:
        return {
            "learner": self.learner.state_dict(),
            "optimiser": optimiser_state(self.optimiser, self.learner),
        }

    def load(self, state: State) -> None:
        self.learner.load_state_dict(state["learner"])
        self.load_optimiser(state["optimiser"])

    def load_optimiser(self, state: State) -> None:
        self.optimiser.state.clear()
        load_optimiser_state(state, self.optimiser, self.learner)

    def _without_exchange(self) -> AbstractContextManager[None]:
        """Only the last piece's backward pass brings the ranks' gradients together."""
        several = isinstance(self._module, DistributedDataParallel)
        return self._module.no_sync() if several else nullcontext()


def _distributed(learner: Learner) -> nn.Module:
    gpus = [distributed.device()] if distributed.device().type == "cuda" else None
    module = DistributedDataParallel(learner, device_ids=gpus)
    # Synchronised statistics are the same on every rank anyway, and rank 0's are saved.
    module.broadcast_buffers = False
    return module
