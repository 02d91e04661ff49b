"""The seam between the loop and what moves the weights: plain torch, or DeepSpeed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from curation.errors import UserError
from distill.training.config import TrainSettings
from distill.training.data import Batch
from distill.training.learner import Learner, optimiser, to_device

STATE = "engine.pt"


class Engine(Protocol):
    """One optimisation step, and saving and loading all that the next step depends on."""

    learner: Learner

    def step(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        """Forward, backward and update at learning rate ``rate``; the losses, detached."""
        ...

    def save(self, folder: Path) -> None:
        """Write weights and optimiser into ``folder``."""
        ...

    def load(self, folder: Path) -> None:
        """Take them back from a folder of our own making."""
        ...


class TorchEngine:
    """Plain PyTorch on the GPU where there is one, else the CPU."""

    def __init__(self, learner: Learner, settings: TrainSettings) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.learner = learner.to(self.device, memory_format=torch.channels_last)
        self.optimiser = optimiser(learner, settings)
        self.clip = settings.clip_gradient_norm

    def step(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        losses = self.learner(*to_device(batch, self.device))
        self.optimiser.zero_grad(set_to_none=True)
        losses["total"].backward()
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.learner.parameters(), self.clip)
        self.optimiser.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def save(self, folder: Path) -> None:
        state = {"learner": self.learner.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save(state, folder / STATE)

    def load(self, folder: Path) -> None:
        state = torch.load(folder / STATE, map_location=self.device, weights_only=True)
        self.learner.load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])


class DeepSpeedEngine:
    """DeepSpeed as a library, with ZeRO; on the CPU over gloo, on GPUs over NCCL."""

    def __init__(self, learner: Learner, settings: TrainSettings) -> None:
        deepspeed = _deepspeed()
        self._engine, _, _, _ = deepspeed.initialize(
            model=learner,
            optimizer=optimiser(learner, settings),
            config=_deepspeed_config(settings),
        )
        if settings.zero_stage == 0:
            # Only now, since it broadcasts contiguous weights; ZeRO's shards must stay as they are.
            learner.to(memory_format=torch.channels_last)
        self.learner = learner
        self.device = torch.device(self._engine.device)

    def step(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        losses = self._engine(*to_device(batch, self.device))
        self._engine.backward(losses["total"])
        self._engine.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag="deepspeed")

    def load(self, folder: Path) -> None:
        loaded, _ = self._engine.load_checkpoint(str(folder), tag="deepspeed")
        if loaded is None:
            raise UserError(f"{folder} holds no DeepSpeed checkpoint; delete it and run again")


ENGINES: dict[str, Callable[[Learner, TrainSettings], Engine]] = {
    "torch": TorchEngine,
    "deepspeed": DeepSpeedEngine,
}


def create_engine(learner: Learner, settings: TrainSettings) -> Engine:
    """The engine that ``settings.engine`` names."""
    return ENGINES[settings.engine](learner, settings)


def _deepspeed() -> Any:
    """Import DeepSpeed and join its process group: torchrun's, or one of this process alone."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "RANK" not in os.environ:
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ.update(alone)
    try:
        import deepspeed
    except ImportError:
        raise UserError(
            'train.engine is "deepspeed" but DeepSpeed is not installed (it exists for Linux); '
            'use engine = "torch"'
        ) from None
    if not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if os.environ["WORLD_SIZE"] == "1":
            store = torch.distributed.HashStore()
            torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        else:
            torch.distributed.init_process_group(backend)
    # Its shared-memory kernel compiles for two minutes at first use; gloo does the same work.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=None, auto_mpi_discovery=False)
    return deepspeed


def _deepspeed_config(settings: TrainSettings) -> dict[str, Any]:
    world = int(os.environ["WORLD_SIZE"])
    return {
        "train_batch_size": settings.batch_size,
        "train_micro_batch_size_per_gpu": settings.batch_size // world,
        "zero_optimization": {"stage": settings.zero_stage},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": settings.clip_gradient_norm or 0.0,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
