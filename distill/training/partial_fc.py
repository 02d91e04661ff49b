"""Class weights of which a step trains some or a rank holds some: An et al., Partial FC, 2021.

The optimiser and the losses see a parameter of fixed size, the ``active`` rows. If a step samples
identities, the active rows and their optimiser state are loaded from a store of all rows before
the step and written back after it; other rows do not change. Checkpoints hold the state of all
class weights, as they do without Partial FC.
"""

import math
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from distill.losses import WeightedLosses
from distill.losses.class_weights import SampledClassWeights
from distill.losses.collectives import all_gather
from distill.ranks import rank, world_size
from distill.training.config import TrainSettings
from distill.training.engine import EngineState
from distill.training.shares import shares_of

NAME = "losses.centres"
"""Name of the class weights in the learner's state."""
OptimiserState = MutableMapping[Any, Any]


def partial_centres(
    losses: WeightedLosses, settings: TrainSettings, device: torch.device
) -> "PartialCentres | None":
    """Take the class weights out of ``losses`` if ``settings`` ask for a part; else return None.

    Call it before creating the optimiser. ``losses`` then has a parameter on ``device``.
    """
    sharded = settings.centres.sharded and world_size() > 1
    if losses.centres is None or not (sharded or settings.centres.sample_rate < 1.0):
        return None
    return PartialCentres(
        losses, settings.centres.sample_rate, sharded, settings.batch_size, device
    )


class PartialCentres:
    """The class weights [identities, ...] of ``losses``: this rank's share, and the rows of a step.

    With ``sample_rate`` below 1, a step takes the identities of the global batch, at most
    ``batch_size``, and randomly chosen others. Their number is constant: ``sample_rate`` of the
    share, but at least ``batch_size``. If ``sharded``, each rank samples from its share; otherwise
    all ranks sample the same rows. The sample derives from torch's random state on rank 0.
    """

    def __init__(
        self,
        losses: WeightedLosses,
        sample_rate: float,
        sharded: bool,
        batch_size: int,
        device: torch.device,
    ) -> None:
        assert losses.centres is not None
        whole = losses.centres.detach()
        self.shares = shares_of(len(whole), world_size() if sharded else 1)
        self.share = self.shares[rank() if sharded else 0]
        own = whole[self.share].clone() if sharded else whole
        self.losses, self.sharded, self.device = losses, sharded, device
        self.store: Tensor | None = own.to(device) if sample_rate < 1.0 else None
        self.count = min(len(own), max(math.ceil(sample_rate * len(own)), batch_size))
        self.active = nn.Parameter(own[: self.count].clone().to(device))
        self.moments: dict[str, Tensor] = {}
        """The optimiser's state for all rows of the store, by its own keys."""
        losses.centres = self.active
        self._activate(torch.arange(self.count))

    def gather(self, labels: np.ndarray, optimiser: OptimiserState) -> None:
        """Before a step: sample and load its rows; ``labels`` are all of this rank's."""
        if self.store is None:
            return
        seed = torch.randint(2**62, (1,))
        gathered = all_gather(torch.cat([seed, torch.from_numpy(labels)]))
        everywhere = gathered.view(-1, 1 + len(labels))
        stream = rank() if self.sharded else 0
        random = np.random.default_rng([int(everywhere[0, 0]), stream])
        rows = everywhere[:, 1:].unique() - self.share.start
        own = rows[(rows >= 0) & (rows < len(self.store))]
        self._activate(sample_rows(own, len(self.store), self.count, random))
        with torch.no_grad():
            torch.index_select(self.store, 0, self.rows, out=self.active.data)
            for key, moments in self.moments.items():
                torch.index_select(moments, 0, self.rows, out=optimiser[self.active][key])

    def scatter(self, optimiser: OptimiserState) -> None:
        """After a step: write its rows back to the store."""
        if self.store is None:
            return
        self.store.index_copy_(0, self.rows, self.active.detach())
        for key, value in self._active_moments(optimiser).items():
            if key not in self.moments:
                self.moments[key] = torch.zeros_like(self.store)
            self.moments[key].index_copy_(0, self.rows, value)

    def whole_norm(self, norm: Tensor) -> Tensor:
        """The norm of a whole gradient, given the ``norm`` of this rank's rows."""
        if not self.sharded:
            return norm
        squared = norm.square()
        dist.all_reduce(squared)
        return squared.sqrt()

    def complete(self, state: EngineState, optimiser: OptimiserState) -> EngineState:
        """``state`` with all class weights, on rank 0; call it on every rank."""
        moments = self.moments or self._active_moments(optimiser)
        learner = {**state["learner"], NAME: self._from_all_ranks(self._own())}
        whole = {
            key: {**state["optimiser"].get(key, {}), NAME: self._from_all_ranks(value)}
            for key, value in moments.items()
        }
        return {**state, "learner": learner, "optimiser": {**state["optimiser"], **whole}}

    def load(self, learner: EngineState) -> EngineState:
        """Take the class weights from a learner's full state; return it with the active rows."""
        whole = learner[NAME]
        if self.store is not None:
            self.store.copy_(whole[self.share])
        return {**learner, NAME: whole[self._first_rows]}

    def load_optimiser(self, state: EngineState) -> EngineState:
        """Like ``load``, for the optimiser's full state of the class weights."""
        moments = {
            key: by_name[NAME]
            for key, by_name in state.items()
            if NAME in by_name and by_name[NAME].shape == self.shape
        }
        if self.store is not None:
            self.moments = {
                key: whole[self.share].clone().to(self.device) for key, whole in moments.items()
            }
        active = {
            key: {**state[key], NAME: whole[self._first_rows]} for key, whole in moments.items()
        }
        return {**state, **active}

    @property
    def shape(self) -> torch.Size:
        """The shape of all class weights."""
        return torch.Size((self.shares[-1].stop, *self.active.shape[1:]))

    @property
    def _first_rows(self) -> slice:
        """The rows that are active until the first step samples others."""
        return slice(self.share.start, self.share.start + self.count)

    def finish(self) -> None:
        """Give all class weights back to the losses, on rank 0; call it on every rank."""
        self.losses.centres = nn.Parameter(self._from_all_ranks(self._own()))
        self.losses.sampled = None

    def _activate(self, rows: Tensor) -> None:
        self.rows = rows.to(self.device)
        self.losses.sampled = SampledClassWeights(self.rows + self.share.start, self.sharded)

    def _own(self) -> Tensor:
        return self.active.detach() if self.store is None else self.store

    def _active_moments(self, optimiser: OptimiserState) -> dict[str, Tensor]:
        """The optimiser's state tensors that have one entry per row."""
        return {
            key: value
            for key, value in optimiser.get(self.active, {}).items()
            if isinstance(value, Tensor) and value.shape == self.active.shape
        }

    def _from_all_ranks(self, own: Tensor) -> Tensor:
        """The full tensor on rank 0, on the CPU if ranks hold shares; ``own`` on the others."""
        if not self.sharded:
            return own
        if rank() != 0:
            dist.send(own.cpu(), 0)
            return own
        whole = torch.empty(self.shares[-1].stop, *own.shape[1:])
        whole[self.share] = own.cpu()
        for sender, share in enumerate(self.shares[1:], start=1):
            dist.recv(whole[share], sender)
        return whole


def sample_rows(own: Tensor, count: int, wanted: int, random: np.random.Generator) -> Tensor:
    """int64 [wanted], ascending, of ``count`` rows: ``own`` and uniformly sampled others.

    ``own`` are distinct rows, at most ``wanted``.
    """
    is_own = np.zeros(count, dtype=bool)
    is_own[own.numpy()] = True
    drawn = random.choice(count, wanted, replace=False)
    others = drawn[~is_own[drawn]][: wanted - len(own)]
    return torch.cat([own, torch.from_numpy(others)]).sort().values
