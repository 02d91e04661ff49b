"""The public names of the packages: docs/python.md."""

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from tests.reference.text import NOTICE, code, markdown

HEAD = """# Python API

These names are public ([api-stability.md](api-stability.md)). All losses are in
[losses.md](losses.md#reference).
"""
PUBLIC = (
    "distill:load",
    "distill.export.embedder:BundleEmbedder",
    "distill.losses.loss:Loss",
    "distill.losses.loss:LossInputs",
    "distill.losses.loss:register",
    "distill.losses.settings:LossSettings",
    "curation.views:open_images",
    "curation.image_set:ImageSet",
    "curation.images:decode",
    "curation.noise.check:check",
    "curation.noise.check:NoiseCheck",
    "curation.sources.image_source:ImageSource",
    "teachers.networks:register",
    "teachers.embedder:Embedder",
    "teachers.preprocessing:Preprocessing",
    "distill.export.exporter:Exporter",
    "distill.export.exporter:exporter",
)


def signature(found: Any) -> str:
    text = str(inspect.signature(found))
    return text.replace("'", "") if len(text) < 400 else "(...)"


def members(kind: type) -> Iterator[str]:
    """Documented public methods and properties, in order."""
    for name, member in vars(kind).items():
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(member, property) and member.fget is not None and member.__doc__:
            yield f"- **`{name}`**: {' '.join(member.__doc__.split()).replace('``', '`')}"
        elif inspect.isfunction(member) and member.__doc__:
            said = " ".join(member.__doc__.split()).replace("``", "`")
            yield f"- **`{name}{signature(member)}`**: {said}"


def one(name: str) -> str:
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    lines = [
        f"## {module}.{attribute}\n",
        code(f"{attribute}{signature(found)}", "python"),
        markdown(found.__doc__ or ""),
    ]
    if inspect.isclass(found) and (listed := list(members(found))):
        lines.append("\n".join(listed) + "\n")
    return "\n".join(lines)


def page() -> str:
    return "\n".join([NOTICE, HEAD, *map(one, PUBLIC)])
