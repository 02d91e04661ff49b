"""The settings of a training; they are tables of a job spec."""

from importlib.util import find_spec
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from distill.spec_errors import SpecError

LONGEST_TEXT = 1_000
"""Maximum number of characters of a name or path"""


class Strict(BaseModel):
    """Frozen, without unknown keys or conversions between types."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, str_max_length=LONGEST_TEXT
    )


Epochs = Annotated[int, Field(ge=1, le=10_000)]
Steps = Annotated[int, Field(ge=1, le=100_000_000)]
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
"""Positive and within float32; no step is useful at the largest value."""
Share = Annotated[float, Field(gt=0, le=1)]
WeightDecay = Annotated[float, Field(ge=0, le=100)]

FROZEN = 0.0
"""The ``body_learning_rate`` of a stage that freezes the body."""

OptimiserStart = Literal["fresh", "kept"]
"""Whether a stage starts with a fresh optimiser or keeps that of the previous stage."""


class Retry(Strict):
    """After a divergence, restart from the last checkpoint at ``rate_factor`` times the rate.

    Happens at most ``retries`` times in a training; the factors multiply.
    """

    retries: int = Field(default=2, ge=1, le=100)
    rate_factor: float = Field(default=0.1, gt=0, lt=1)


class SamplerSettings(Strict):
    """How a stage fills its batches.

    ``shuffle`` shows every image once per epoch, in the way ``train.shuffle`` selects. ``pk`` takes
    ``images`` of each identity with ``least_images`` or more (see ``distill.training.pk_shuffle``)
    and reads every image when its turn comes, regardless of ``train.shuffle``.
    """

    kind: Literal["shuffle", "pk"] = "shuffle"
    images: int | None = Field(default=None, ge=2, le=1 << 16)
    least_images: int = Field(default=1, ge=1, le=1 << 24)

    @model_validator(mode="after")
    def _check_combinations(self) -> "SamplerSettings":
        if self.kind == "pk" and self.images is None:
            raise SpecError(
                ("images",),
                'is missing; kind = "pk" needs the number of images of each identity in a batch '
                "(the papers take 4)",
            )
        if self.images is not None and self.kind != "pk":
            raise SpecError(
                ("images",),
                'needs kind = "pk", which takes this many images of each identity; '
                "add it, or leave images out",
            )
        if self.least_images > 1 and self.kind != "pk":
            raise SpecError(
                ("least_images",),
                'it applies to kind = "pk"; to leave identities out in every case, make a view of '
                "the data set (`curate view`)",
            )
        return self

    def check_shares(self, batch_size: int, micro_batches: int) -> None:
        """Raise ``SpecError`` if this number of micro-batches would split an identity."""
        if self.images is not None and batch_size % (micro_batches * self.images):
            raise SpecError(
                ("images",),
                f"batch_size = {batch_size} cannot be split into {micro_batches} equal "
                "micro-batches (ranks x accumulate) of whole identities with "
                f"{self.images} images; "
                f"allowed: multiples of {micro_batches * self.images}",
            )


USUAL: dict[str, dict[str, Any]] = {
    "adamw": {
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-6,
        "momentum": None,
        "weight_decay": 0.1,
    },
    "step": {"final_learning_rate": None, "decay": 0.1},
    "polynomial": {"power": 2.0},
    "constant": {"final_learning_rate": None},
}
"""Defaults that depend on the optimiser (AdamW: insightface's ViT on WebFace42M) or schedule."""
SCHEDULE_OF = {"milestones": "step", "decay": "step", "power": "polynomial"}
"""Settings that apply to one schedule only."""
NO_FINAL_RATE = {"step": "ends where the milestones lead", "constant": "stays at learning_rate"}
"""Schedules without a final learning rate, and how they end."""


class CentresSettings(Strict):
    """Partial FC, for more identities than fit into memory or training time (docs/training.md).

    Each step trains the class weights of the identities in its batch and of randomly chosen others,
    ``sample_rate`` of all. With ``sharded``, every rank holds only its share of the class weights.
    """

    sample_rate: float = Field(default=1.0, gt=0, le=1)
    sharded: bool = False


class TrainSettings(Strict):
    """How a network is optimised; the defaults are those of the papers for MS1M.

    ``optimiser`` adamw has its own defaults (``USUAL``), torch's betas, and no ``momentum``.
    ``head_weight_decay`` applies to the class weights and the layers after the network's global
    operator; it defaults to ``weight_decay``. ``body_learning_rate`` multiplies the rate of all
    other layers. ``ema`` is the decay of the moving average of the weights, which then is the
    result of the training (``distill.training.averaging``).

    The learning rate rises linearly over ``warmup`` (a share of all steps), then falls along
    ``schedule`` to ``final_learning_rate``: as a cosine, linearly, as a polynomial of ``power``, or
    in steps, by ``decay`` at each of the ``milestones`` (shares of all steps).

    ``batch_size`` is the number of images per optimiser step over all ``ranks`` (None: the number
    of GPUs, or one), each of which processes its share in ``accumulate`` micro-batches. ``engine``
    deepspeed uses ZeRO at ``zero_stage``. ``checkpoint_every`` is in steps. ``shuffle`` windowed is
    for disks with slow seeks; it mixes ``shuffle_window`` images at a time.

    The network is scored on the job's pair sets every ``evaluate_every`` steps and at the end.
    ``keep`` selects the final weights: the last, or those with the best score.
    """

    batch_size: int = Field(default=512, ge=1, le=1 << 24)
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: LearningRate = 0.1
    body_learning_rate: Share = 1.0
    final_learning_rate: float | None = Field(default=1e-4, ge=0, le=1e30)
    schedule: Literal["cosine", "linear", "polynomial", "step", "constant"] = "cosine"
    milestones: list[Share] | None = Field(default=None, min_length=1, max_length=1000)
    decay: float | None = Field(default=None, gt=0, lt=1)
    power: float | None = Field(default=None, gt=0, le=100)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    momentum: float | None = Field(default=0.9, ge=0, lt=1)
    weight_decay: WeightDecay = 5e-4
    head_weight_decay: WeightDecay | None = None
    ema: float | None = Field(default=None, gt=0, lt=1)
    clip_gradient_norm: float | None = Field(default=None, gt=0, le=1e30)
    seed: int = Field(default=0, ge=0, lt=2**32)
    shuffle: Literal["full", "windowed"] = "full"
    shuffle_window: int = Field(default=65536, ge=1, le=1 << 24)
    engine: Literal["torch", "deepspeed"] = "torch"
    zero_stage: Literal[0, 1, 2] = 0
    ranks: int | None = Field(default=None, ge=1, le=4096)
    accumulate: int = Field(default=1, ge=1, le=1 << 16)
    centres: CentresSettings = CentresSettings()
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = False
    sync_batch_norm: bool = True
    on_divergence: Retry | None = None
    checkpoint_every: Steps = 200
    keep_checkpoints: int = Field(default=2, ge=1, le=1000)
    evaluate_every: Steps | None = None
    keep: Literal["last", "best"] = "last"
    log_every: Steps = 10
    tensorboard: bool = False
    decode_threads: int = Field(default=2, ge=1, le=256)

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, given: Any) -> Any:
        """Fill in the defaults that depend on the optimiser or the schedule."""
        if not isinstance(given, dict):
            return given
        usual: dict[str, Any] = {}
        for choice in ("optimiser", "schedule"):
            usual |= USUAL.get(str(given.get(choice)), {})
        return {**usual, **given}

    @model_validator(mode="after")
    def _check_optimiser(self) -> "TrainSettings":
        if self.optimiser == "adamw" and self.momentum is not None:
            raise SpecError(
                ("momentum",),
                'needs optimiser = "sgd"; leave it out with "adamw", whose betas are 0.9 and 0.999',
            )
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> "TrainSettings":
        for setting, schedule in SCHEDULE_OF.items():
            if getattr(self, setting) is not None and self.schedule != schedule:
                raise SpecError(
                    (setting,),
                    f'needs schedule = "{schedule}"; leave it out with "{self.schedule}"',
                )
        if self.schedule in NO_FINAL_RATE and self.final_learning_rate is not None:
            raise SpecError(
                ("final_learning_rate",),
                f'has no effect with schedule = "{self.schedule}", which '
                f"{NO_FINAL_RATE[self.schedule]}; leave it out",
            )
        if self.schedule == "step":
            self._check_steps()
        return self

    def _check_steps(self) -> None:
        milestones = self.milestones or []
        bounds = [self.warmup, *milestones, 1.0]
        if not milestones or any(a >= b for a, b in pairwise(bounds)):
            raise SpecError(
                ("milestones",) if milestones else ("schedule",),
                f'schedule = "step" with milestones = {milestones}; allowed: shares of all steps '
                f"in ascending order, after the warm-up ({self.warmup}) and before 1, such as "
                "milestones = [0.5, 0.75, 0.9]",
            )

    @model_validator(mode="after")
    def _check_combinations(self) -> "TrainSettings":
        if self.zero_stage and self.engine != "deepspeed":
            raise SpecError(
                ("zero_stage",),
                f'{self.zero_stage} needs engine = "deepspeed"; '
                f'allowed with engine = "{self.engine}": 0',
            )
        if self.keep == "best" and self.evaluate_every is None:
            raise SpecError(
                ("keep",), '"best" needs evaluate_every, in steps; allowed without it: "last"'
            )
        self.check_shares(self.ranks or 1)
        if self.engine == "deepspeed" and self.centres != CentresSettings():
            raise SpecError(
                ("centres",),
                'a sample_rate below 1 or sharded = true need engine = "torch"; '
                'allowed with engine = "deepspeed": sample_rate = 1.0, sharded = false',
            )
        if self.tensorboard and find_spec("tensorboard") is None:
            raise SpecError(
                ("tensorboard",),
                "the package is not installed; run `pip install 'face-distill[tensorboard]'`, "
                "or leave it false",
            )
        return self

    def check_shares(self, ranks: int) -> None:
        """Raise ``SpecError`` if a batch cannot be split into equal shares for ``ranks``."""
        micro_batches = ranks * self.accumulate
        if self.batch_size % micro_batches:
            raise SpecError(
                ("batch_size",),
                f"{self.batch_size} images cannot be split into {micro_batches} equal "
                f"micro-batches (ranks {ranks} x accumulate {self.accumulate}); "
                f"allowed: multiples of {micro_batches}",
            )


def checkpoints_kept(settings: TrainSettings, steps: int) -> int:
    """The number of checkpoints at the end of a training: the last ones, and the best."""
    written = -(-steps // settings.checkpoint_every)
    best = settings.evaluate_every is not None and written > settings.keep_checkpoints
    return min(settings.keep_checkpoints, written) + best
