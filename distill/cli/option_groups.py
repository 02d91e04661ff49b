"""Options that several commands share, declared once as a dataclass."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Expand each parameter annotated with a dataclass into one option per field.

    Typer sees the fields as parameters of the command; the command receives the dataclass. The
    annotations and defaults of the fields have the form that Typer expects of parameters.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def expanded(*others: Any, **given: Any) -> None:
        for name, group in groups.items():
            own = [each.name for each in fields(group) if each.name in given]
            given[name] = group(**{option: given.pop(option) for option in own})
        command(*others, **given)

    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        found = inspect.signature(groups[name]).parameters if name in groups else {name: parameter}
        parameters += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in found.values()]
    expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return expanded
