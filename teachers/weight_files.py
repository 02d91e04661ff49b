"""Files of weights that others wrote, read without running anything that is in them.

``.safetensors``, or anything that torch.save writes (``.pt``, ``.pth``, ``.ckpt``, ``.bin``).
"""

import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from curation.errors import UserError

SAFETENSORS_SUFFIX = ".safetensors"

WRAPPERS = ("state_dict", "model_state_dict", "state_dict_backbone", "model")
"""Keys under which training programs keep the state dict; insightface's has the third."""

TRAINERS = ("pytorch_lightning.", "lightning.", "argparse.")
"""Modules whose objects lie beside the weights in a trainer's checkpoint, as in AdaFace's."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict by key, on the CPU.

    Takes the state dict out of a training checkpoint. Raises ``UserError`` where the file cannot
    be read, could only be read by running code in it, or holds no state dict.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a file of weights")
    read = load_file if path.suffix == SAFETENSORS_SUFFIX else _read_pickle
    try:
        content = read(path)
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise UserError(
            f"{path}: not a file of weights that can be read safely ({_reason(error)}); "
            "a whole file of a state dict alone, as .safetensors or by torch.save, can"
        ) from None
    return _tensors(path, _unwrapped(content))


def _read_pickle(path: Path) -> Any:
    with torch.serialization.safe_globals(_stand_ins(path)):
        return torch.load(path, map_location="cpu", weights_only=True)


def _stand_ins(path: Path) -> list[Any]:
    """A harmless mapping in place of each class of a trainer that the file names.

    Nothing of the trainer is imported or called; what would have been its object is not used.
    """
    if not zipfile.is_zipfile(path):
        return []
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(OrderedDict, name) for name in names if name.startswith(TRAINERS)]


def _reason(error: Exception) -> str:
    called = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
    return f"it would call {called[1]}" if called else type(error).__name__


def _unwrapped(content: Any) -> Any:
    for _ in WRAPPERS:
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in WRAPPERS if key in content), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    return content


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: holds no state dict; save the network's state_dict() alone")
    for key, value in content.items():
        if not isinstance(key, str) or not _is_plain(value):
            raise UserError(
                f"{path}: not a state dict: {shortened(key)} is a {type(value).__name__} that is "
                "no dense tensor"
            )
    return {key: value.detach() for key, value in content.items()}


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex() or value.is_nested)
    )


def shortened(key: object) -> str:
    """A key of an unknown file as it can stand in a message: one line, not too long."""
    text = repr(key)
    return text if len(text) <= 100 else f"{text[:97]}..."
