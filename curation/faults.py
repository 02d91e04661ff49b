"""What a value must be, in plain words, for a fault that pydantic finds."""

from collections.abc import Mapping
from typing import Any

_REQUIREMENTS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a string",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "does not match {pattern}",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} elements, not {actual_length}",
    "too_long": "must have at most {max_length} elements",
    "dict_type": "must be an object with keys",
    "model_type": "must be an object with keys",
    "dataclass_type": "must be an object with keys",
    "model_attributes_type": "must be an object with keys",
    "json_invalid": "it is not JSON: {error}",
    "value_error": "{error}",
}
"""By pydantic's type of a fault; a type that is not listed keeps pydantic's message."""


def requirement(fault: Mapping[str, Any]) -> str:
    """What the value must be, for an element of ``ValidationError.errors()``.

    It follows the name of the value: ``colour`` and "must be 'RGB' or 'BGR'".
    """
    words = _REQUIREMENTS.get(fault["type"])
    context = {name: _shown(value) for name, value in fault.get("ctx", {}).items()}
    if context.get("min_length") == 1:
        return "must not be empty"
    try:
        return str(fault["msg"]) if words is None else words.format_map(context)
    except KeyError:  # another version of pydantic has another context
        return str(fault["msg"])


def _shown(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
