"""What a training can be told; the tables of a job spec are these classes."""

from importlib.util import find_spec
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class Strict(BaseModel):
    """Frozen, nothing unknown, no conversion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Retry(Strict):
    """After a divergence: back to the last checkpoint with the learning rate times ``rate_factor``.

    At most ``retries`` times in a training; the factors multiply.
    """

    retries: PositiveInt = 2
    rate_factor: float = Field(default=0.1, gt=0, lt=1)


class SamplerSettings(Strict):
    """How a stage fills its batches.

    ``shuffle`` shows every image once an epoch, as ``train.shuffle`` says. ``pk`` takes ``images``
    of each identity that has ``least_images`` (see ``distill.training.pk_shuffle``), and reads
    every image when its turn comes, whatever ``train.shuffle`` says.
    """

    kind: Literal["shuffle", "pk"] = "shuffle"
    images: int | None = Field(default=None, ge=2)
    least_images: PositiveInt = 1

    @model_validator(mode="after")
    def _fits_together(self) -> "SamplerSettings":
        if (self.images is None) == (self.kind == "pk"):
            raise ValueError(
                'images (of each identity in a batch; the papers take 4) goes with kind = "pk", '
                "and only with it"
            )
        if "least_images" in self.model_fields_set and self.kind != "pk":
            raise ValueError(
                'least_images leaves identities out of kind = "pk"; a view of the data set leaves '
                "them out everywhere (`curate view`)"
            )
        return self

    def check_shares(self, batch_size: int, pieces: int) -> None:
        """Raise ``ValueError`` where cutting a batch into ``pieces`` would cut an identity."""
        if self.images is not None and batch_size % (pieces * self.images):
            raise ValueError(
                f"batch_size = {batch_size} cannot be cut into {pieces} equal pieces (ranks x "
                f"accumulate) of whole identities with {self.images} images; "
                f"allowed: multiples of {pieces * self.images}"
            )


class TrainSettings(Strict):
    """How a network is optimised; the defaults are those of the papers for MS1M.

    The learning rate rises linearly over ``warmup`` (a share of all steps), then falls along
    ``schedule`` to ``final_learning_rate``. ``head_weight_decay`` is that of the layers after the
    network's global operator and of the class centres, ``weight_decay`` where it is not said.

    ``batch_size`` counts the images of one optimiser step over all ``ranks`` (None: as many as
    there are GPUs, one without any), each of which takes its part in ``accumulate`` pieces.
    ``engine`` deepspeed uses ZeRO of ``zero_stage``. ``checkpoint_every`` is in steps. ``shuffle``
    windowed reads disks that cannot seek, mixing ``shuffle_window`` images at a time.

    Every ``evaluate_every`` steps, and at the end, the network is scored on the job's sets of
    pairs. ``keep`` says which weights the training ends with: the last, or those of the best score.
    """

    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 0.1
    final_learning_rate: NonNegativeFloat = 1e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 5e-4
    head_weight_decay: NonNegativeFloat | None = None
    clip_gradient_norm: PositiveFloat | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    shuffle: Literal["full", "windowed"] = "full"
    shuffle_window: PositiveInt = 65536
    engine: Literal["torch", "deepspeed"] = "torch"
    zero_stage: Literal[0, 1, 2] = 0
    ranks: PositiveInt | None = None
    accumulate: PositiveInt = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    activation_checkpointing: bool = False
    sync_batch_norm: bool = True
    on_divergence: Retry | None = None
    checkpoint_every: PositiveInt = 200
    keep_checkpoints: PositiveInt = 2
    evaluate_every: PositiveInt | None = None
    keep: Literal["last", "best"] = "last"
    log_every: PositiveInt = 10
    tensorboard: bool = False
    decode_threads: PositiveInt = 2

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainSettings":
        if self.zero_stage and self.engine != "deepspeed":
            raise ValueError(
                f'zero_stage = {self.zero_stage} needs engine = "deepspeed"; '
                f'allowed with engine = "{self.engine}": 0'
            )
        if self.keep == "best" and self.evaluate_every is None:
            raise ValueError(
                'keep = "best" needs evaluate_every, in steps; allowed without it: "last"'
            )
        self.check_shares(self.ranks or 1)
        if self.tensorboard and find_spec("tensorboard") is None:
            raise ValueError(
                "tensorboard = true, but the package is not installed; "
                'pip install "face-distill[tensorboard]", or leave it false'
            )
        return self

    def check_shares(self, ranks: int) -> None:
        """Raise ``ValueError`` where a batch cannot be cut into equal pieces for ``ranks``."""
        pieces = ranks * self.accumulate
        if self.batch_size % pieces:
            raise ValueError(
                f"batch_size = {self.batch_size} cannot be cut into {pieces} equal pieces "
                f"(ranks {ranks} x accumulate {self.accumulate}); allowed: multiples of {pieces}"
            )
