"""What a training can be told; the tables of a job spec are these classes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt


class Strict(BaseModel):
    """Frozen, nothing unknown, no conversion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class TrainSettings(Strict):
    """How a network is optimised; the defaults are those of the papers for MS1M.

    The learning rate rises linearly over ``warmup`` (a share of all steps), then falls along
    ``schedule`` to ``final_learning_rate``. ``head_weight_decay`` is that of the layers after the
    network's global operator and of the class centres, ``weight_decay`` where it is not said.
    ``checkpoint_every`` is in steps. ``engine`` deepspeed uses ZeRO of ``zero_stage``.
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
    engine: Literal["torch", "deepspeed"] = "torch"
    zero_stage: Literal[0, 1, 2] = 0
    checkpoint_every: PositiveInt = 200
    log_every: PositiveInt = 10
    decode_threads: PositiveInt = 2
