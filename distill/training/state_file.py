"""The training state in a checkpoint, read with the same care as any untrusted file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from curation.errors import UserError
from teachers.weight_files import described_tensors

STATE = "training.pt"


def check_state(checkpoint: Path) -> None:
    """Raise ``UserError`` if the state is missing or cannot be read within limits."""
    if not (checkpoint / STATE).is_file():
        raise UserError(f"it has no {STATE}")
    described_tensors(checkpoint / STATE)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The saved state, its tensors on the CPU."""
    # weights_only prevents a pickle from running code.
    return torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)


@contextmanager
def of_this_training(checkpoint: Path) -> Iterator[None]:
    """Turn any error inside into a ``UserError``: the state does not belong to this training."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # malformed content can raise any kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the checkpoint {checkpoint} does not hold the state of this training ({reason}); "
            f"remove {checkpoint.parent} and run again to train from the start"
        ) from None
