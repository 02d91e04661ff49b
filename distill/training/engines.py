"""The engines by name: plain torch, or DeepSpeed."""

from collections.abc import Callable

from distill.training.config import TrainSettings
from distill.training.deepspeed_engine import DeepSpeedEngine
from distill.training.engine import Engine
from distill.training.learner import Learner
from distill.training.torch_engine import TorchEngine

ENGINES: dict[str, Callable[[Learner, TrainSettings], Engine]] = {
    "torch": TorchEngine,
    "deepspeed": DeepSpeedEngine,
}


def create_engine(learner: Learner, settings: TrainSettings) -> Engine:
    """The engine that ``settings.engine`` names."""
    return ENGINES[settings.engine](learner, settings)
