"""DeepSpeed as a library, with ZeRO stages 0 to 2, on the CPU (gloo) or on GPUs (NCCL)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distill.training import distributed
from distill.training.config import TrainSettings
from distill.training.data import Batch
from distill.training.engine import (
    STEP,
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


class DeepSpeedEngine:
    """One DeepSpeed engine per rank; a checkpoint gathers the shards of the optimiser.

    DeepSpeed's own checkpoints fit only the number of ranks and the ZeRO stage that wrote them,
    and are read by unpickling.
    """

    def __init__(self, learner: Learner, settings: TrainSettings) -> None:
        with _launched():
            self._engine, _, _, _ = _deepspeed().initialize(
                model=learner,
                optimizer=optimiser(learner, settings),
                config=_config(settings),
            )
        self._sharded = settings.zero_stage > 0
        self._moments = _moments(settings)
        self._counts_steps = settings.optimiser == "adamw"
        if not self._sharded:
            # Not before: DeepSpeed broadcasts contiguous weights. Not with ZeRO: it shards them.
            learner.to(memory_format=torch.channels_last)
        elif self._moments:
            self._link_moments()
        self.learner, self.accumulate = learner, settings.accumulate
        self.device = torch.device(self._engine.device)

    def step(self, batch: Batch, learning_rate: float) -> StepReport:
        set_rate(self._engine.optimizer, learning_rate)
        parts: list[dict[str, Tensor]] = []
        layers: dict[str, Tensor] = {}
        for arguments in micro_batches(to_device(batch, self.device), self.accumulate):
            losses = self._engine(*arguments)
            self._engine.backward(losses["total"])
            parts.append(losses)
            if len(parts) == self.accumulate and not self._sharded:
                # Before the update, after which DeepSpeed drops the gradients.
                layers = gradient_norms(self.learner)
                leave_out_unless_finite(self.learner, total_norm(layers))
            self._engine.step()
        total = self._global_norm() if self._sharded else total_norm(layers)
        return StepReport(mean_losses(parts), total, layers)

    @property
    def shapes(self) -> Shapes:
        return parameter_shapes(self.learner)

    def state(self) -> EngineState:
        if not self._sharded:
            moved = optimiser_state(self._engine.optimizer, self.learner)
        else:
            moved = {key: self._gathered(key) for key in self._moments}
            if self._counts_steps:
                moved[STEP] = self._steps()
        return {"learner": self.learner.state_dict(), "optimiser": moved}

    def load(self, state: EngineState) -> None:
        self.learner.load_state_dict(state["learner"])
        if self._sharded:
            self._engine.optimizer.refresh_fp32_params()
        self.load_optimiser(state["optimiser"])

    def load_optimiser(self, state: EngineState) -> None:
        if not self._sharded:
            self._engine.optimizer.state.clear()
            load_optimiser_state(state, self._engine.optimizer, self.learner)
            return
        for key in self._moments:
            self._share_out(state.get(key, {}), key)
        if self._counts_steps:
            self._set_steps(state.get(STEP, {}))

    def finish(self) -> None:
        """Nothing to do: every rank has all weights, ZeRO shards only gradients and optimiser."""

    def _global_norm(self) -> Tensor:
        """The norm that DeepSpeed keeps from the update, a number or a tensor."""
        return torch.as_tensor(self._engine.get_global_grad_norm(), device=self.device)

    def _link_moments(self) -> None:
        """Create the optimiser moments of each shard now, to make them accessible by parameter.

        DeepSpeed links parameters to optimiser state at the first update of the first group, when
        the other groups have no state yet. Both optimisers start from zeros.
        """
        zero = self._engine.optimizer
        for shard in zero.single_partition_of_fp32_groups:
            state = zero.optimizer.state[shard]
            if self._counts_steps:
                state[STEP] = torch.tensor(0.0)
            for key in self._moments:
                state[key] = torch.zeros_like(shard)
        zero._lazy_init_hp_params_optimizer_state()

    def _groups(self) -> list[tuple[EngineState, list[str]]]:
        """The optimiser state of this rank's shard of each group, and the group's parameters."""
        zero = self._engine.optimizer
        names = {parameter: name for name, parameter in self.learner.named_parameters()}
        shards = zip(zero.single_partition_of_fp32_groups, zero.bit16_groups, strict=True)
        return [
            (zero.optimizer.state[shard], [names[parameter] for parameter in group])
            for shard, group in shards
        ]

    def _steps(self) -> dict[str, Tensor]:
        """Step counts by parameter, as without ZeRO; a shard counts its steps once."""
        return {name: shard[STEP].clone() for shard, names in self._groups() for name in names}

    def _set_steps(self, steps: dict[str, Tensor]) -> None:
        """Set each group to its parameters' lowest count: too low only shrinks the first steps."""
        for shard, names in self._groups():
            counts = [float(steps.get(name, 0.0)) for name in names]
            shard[STEP].fill_(min(counts, default=0.0))

    def _gathered(self, key: str) -> dict[str, Tensor]:
        """Whole tensors by parameter on rank 0; empty on the others."""
        from deepspeed.utils import safe_get_full_optimizer_state

        whole = {}
        for name, parameter in self.learner.named_parameters():
            if parameter.requires_grad:
                value = safe_get_full_optimizer_state(parameter, key)
                if distributed.rank() == 0:
                    whole[name] = value.cpu()
        return whole

    def _share_out(self, whole: dict[str, Tensor], key: str) -> None:
        """Give each rank its shard; parameters missing from ``whole`` have not been updated yet."""
        from deepspeed.utils import safe_set_full_optimizer_state

        for name, parameter in self.learner.named_parameters():
            if parameter.requires_grad:
                value = whole.get(name, torch.zeros_like(parameter)).to(self.device)
                safe_set_full_optimizer_state(parameter, value.contiguous(), key)


@contextmanager
def _launched() -> Iterator[None]:
    """Set the launcher's environment variables if there is no launcher: DeepSpeed requires them."""
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    unset = alone.keys() - os.environ.keys()
    os.environ.update({name: alone[name] for name in unset})
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]


def _deepspeed() -> Any:
    """Import DeepSpeed and give it a process group: that of all ranks, or one of its own."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    import deepspeed

    # Its shared-memory kernel compiles for two minutes on first use; gloo does the same work.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=None, auto_mpi_discovery=False)
    return deepspeed


def _moments(settings: TrainSettings) -> tuple[str, ...]:
    """The optimiser's tensors with the shape of their parameter, by their torch names."""
    if settings.optimiser == "adamw":
        return ("exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if settings.momentum else ()


def _config(settings: TrainSettings) -> dict[str, Any]:
    """DeepSpeed's configuration; bfloat16 is left to the learner, as with the other engine."""
    shares = distributed.world_size() * settings.accumulate
    return {
        "train_batch_size": settings.batch_size,
        "train_micro_batch_size_per_gpu": settings.batch_size // shares,
        "gradient_accumulation_steps": settings.accumulate,
        "zero_optimization": {"stage": settings.zero_stage},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": settings.clip_gradient_norm or 0.0,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
