"""The public names of the packages: docs/python.md."""

import importlib
import inspect
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from tests.reference.text import NOTICE, code, markdown, sections

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


LINE = 88
MODULES = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])(?!ndarray)")


def type_name(annotation: Any) -> str:
    """An annotation without modules and without the limits of ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return type_name(get_args(annotation)[0])
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return " | ".join(map(type_name, get_args(annotation)))
    if get_origin(annotation) in (tuple, list) and get_args(annotation):
        inside = ", ".join(map(type_name, get_args(annotation)))
        return f"{get_origin(annotation).__name__}[{inside}]"
    if annotation in (..., NoneType):
        return "..." if annotation is ... else "None"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return MODULES.sub("", text).replace("numpy.", "np.").replace("~", "")


def parameters(found: Any) -> list[str]:
    """The parameters as in a definition, without ``self``."""
    signature, shown = inspect.signature(found), []
    for each in signature.parameters.values():
        text = str(each.replace(annotation=each.empty, default=each.empty))
        if each.name == "self":
            continue
        if each.kind is each.KEYWORD_ONLY and not any(s.startswith("*") for s in shown):
            shown.append("*")
        if each.annotation is not each.empty:
            text += f": {type_name(each.annotation)}"
        if each.default is not each.empty:
            default = "..." if each.default is ... else repr(each.default)
            text += f" = {default}" if each.annotation is not each.empty else f"={default}"
        shown.append(text)
    return shown


def returned(found: Any) -> str:
    annotation = inspect.signature(found).return_annotation
    if inspect.isclass(found) or annotation in (None, inspect.Signature.empty):
        return ""
    return f" -> {type_name(annotation)}"


def definition(name: str, found: Any) -> str:
    """The call with its parameters, one a line if they do not fit on one line."""
    shown = parameters(found)
    if inspect.isclass(found) and shown in ([], ["*args", "**kwargs"]):
        return f"class {name}"
    line = f"{name}({', '.join(shown)}){returned(found)}"
    if len(line) <= LINE:
        return line
    listed = "".join(f"    {each},\n" for each in shown)
    return f"{name}(\n{listed}){returned(found)}"


def members(kind: type) -> Iterator[str]:
    """Documented public methods and properties, in order."""
    for name, member in vars(kind).items():
        if name.startswith("_") and name != "__call__":
            continue
        said = markdown(" ".join((member.__doc__ or "").split())).strip()
        if isinstance(member, property) and said:
            yield f"- **`{name}`**: {said}"
        elif inspect.isfunction(member) and said:
            call = f"{name}({', '.join(parameters(member))}){returned(member)}"
            yield f"- **`{call}`**: {said}"


def one(name: str) -> str:
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    text, arguments, _ = sections(found.__doc__ or "")
    lines = [
        f"## {module}.{attribute}\n",
        code(definition(attribute, found), "python"),
        markdown(text),
    ]
    if arguments:
        listed = "".join(f"- `{each}`: {meaning}\n" for each, meaning in arguments.items())
        lines.append(f"Arguments:\n\n{listed}")
    if inspect.isclass(found) and (documented := list(members(found))):
        lines.append("\n".join(documented) + "\n")
    return "\n".join(lines)


def page() -> str:
    return "\n".join([NOTICE, HEAD, *map(one, PUBLIC)])
