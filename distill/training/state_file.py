"""The state of a training in its checkpoints: read with the care that any file of others gets."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from curation.errors import UserError
from teachers.weight_files import described_tensors

STATE = "training.pt"


def check_state(checkpoint: Path) -> None:
    """Raise ``UserError`` where it has no state that can be read within limits."""
    if not (checkpoint / STATE).is_file():
        raise UserError(f"it has no {STATE}")
    described_tensors(checkpoint / STATE)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The state that was saved, its tensors on the CPU."""
    # Pickle can run code; with weights_only it cannot.
    return torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)


@contextmanager
def of_this_training(checkpoint: Path) -> Iterator[None]:
    """What goes wrong inside is a ``UserError``: the state is not that of this training."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of whatever kind its content leads to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the checkpoint {checkpoint} does not hold the state of this training ({reason}); "
            f"remove {checkpoint.parent} and run again to train from the start"
        ) from None
