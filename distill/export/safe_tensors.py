"""safetensors files: written durably, read with a bounded header."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import UserError
from curation.printable import printable
from teachers.safetensors_header import check_header

if TYPE_CHECKING:
    import torch


_OS_ERROR = re.compile(r"\(os error ([0-9]{1,4})\)")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write numpy arrays."""
    from safetensors.numpy import save_file

    with _writing(path):
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def write_weights(path: Path, module: "torch.nn.Module") -> None:
    """Write a module's state dict, float tensors as float32."""
    from safetensors.torch import save_file

    state = module.state_dict()
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    floats = {
        name: tensor.float() for name, tensor in tensors.items() if tensor.is_floating_point()
    }
    with _writing(path):
        save_file(tensors | floats, path, {"format": "pt"})  # transformers' loaders need this


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read numpy arrays; `UserError` for a file that is damaged or not of this format."""
    from safetensors.numpy import load_file

    with _readable(path):
        return load_file(path)


def read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    """Read torch tensors; `UserError` for a file that is damaged or not of this format."""
    from safetensors.torch import load_file

    with _readable(path):
        return load_file(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise `UserError` for a header that is too long, and if the reader fails in any way."""
    check_header(path)
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # its own type, and AttributeError for numbers that numpy lacks
        reason = printable(str(error)[:200])
        raise UserError(
            f"{path}: not a safetensors file that can be read ({reason}); copy it again"
        ) from None


def load_weights(path: Path, module: "torch.nn.Module") -> None:
    """Load the file's tensors into ``module``, which may be on the meta device.

    Raises `UserError` if the file is damaged, is not exactly this network's state dict, or has
    values that are not finite.
    """
    tensors, own = read_tensors(path), module.state_dict()
    for name in tensors.keys() & own.keys():
        if tensors[name].dtype != own[name].dtype:
            raise UserError(
                f"{path}: {name!r} holds {tensors[name].dtype}, the network's is {own[name].dtype}"
            )
        if not tensors[name].isfinite().all():
            raise UserError(f"{path}: {name!r} has values that are not finite numbers")
    try:
        module.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{path}: weights of another network ({printable(first[:200])})") from None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise the system's errors as `OSError`; fix permissions and sync the written file.

    safetensors 0.8 makes files readable by their owner only.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        if (found := _OS_ERROR.search(str(error))) is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from None
    path.chmod(0o644)
    with path.open("rb") as file:
        os.fsync(file.fileno())
