"""Every key of a job spec, as a page and as a JSON Schema for editors.

Types, defaults and bounds come from the models, the meanings of keys from docs/spec-keys.toml, and
the meanings of loss settings from the losses' docstrings.
"""

import json
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from distill.catalogue import catalogue
from distill.export.exporter import exporters
from distill.losses import LOSSES
from distill.spec import JobSpec
from tests.reference.text import NOTICE, sections, table, toml_value

ROOT = Path(__file__).parents[2]
MEANINGS = ROOT / "docs" / "spec-keys.toml"
OF_LOSSES = ("StageSpec", "TeacherTraining")
"""Classes whose key ``losses`` maps names to losses"""

MANY = 12
"""Choices; a page has no room for more"""

HEAD = """# Job spec

A job spec is one TOML file. [The guide](guide.md#job-specs) introduces it, `jobs/` has complete
ones, and `distill init` writes one for your data. Unknown keys, wrong types and values out of
range are refused with their line and column (`distill check SPEC`).

For completion and checks in an editor (Even Better TOML, taplo), write the schema once and name
it in the first line of the spec:

```
distill schema > jobs/spec.schema.json
```

```toml
#:schema spec.schema.json
```

Default "none" means that the key may be left out and is then not used, or that the meaning states
what is used.
"""


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from a schema: TOML has no null, so such a key is optional."""
    choices = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if not choices:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return rest | (choices[0] if len(choices) == 1 else {"anyOf": choices})


def cleaned(schema: Any) -> Any:
    """The models' schema in a form that TOML editors understand."""
    if isinstance(schema, list):
        return [cleaned(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = without_null(schema)
    if "prefixItems" in schema:
        schema = {**schema, "items": schema["prefixItems"][0]}
        del schema["prefixItems"]
    if schema.get("default") is None or isinstance(schema["default"], dict):
        schema = {key: value for key, value in schema.items() if key != "default"}
    if isinstance(schema.get("title"), str) and "description" not in schema:
        schema = {key: value for key, value in schema.items() if key != "title"}
    return {key: cleaned(value) for key, value in schema.items()}


@cache
def meanings() -> dict[str, dict[str, str]]:
    return tomllib.loads(MEANINGS.read_text(encoding="utf-8"))


def losses_schema() -> dict[str, Any]:
    kinds = {}
    for name in sorted(LOSSES):
        entry = LOSSES[name]
        kind = entry.settings.model_json_schema()
        arguments = sections(entry.loss.__doc__ or "")[1]
        for key, each in kind["properties"].items():
            if key in arguments:
                each["description"] = arguments[key]
        kind["description"] = sections(entry.loss.__doc__ or "")[0].split("\n")[0].rstrip(":")
        kinds[name] = kind
    return {"type": "object", "minProperties": 1, "additionalProperties": False,
            "properties": kinds}  # fmt: skip


def backbone_names() -> list[dict[str, Any]]:
    names = sorted(row["name"] for row in catalogue())
    return [{"enum": names}, {"type": "string", "pattern": "^timm/"}]


@cache
def schema() -> dict[str, Any]:
    raw = JobSpec.model_json_schema(by_alias=True)
    classes = {**raw["$defs"], "JobSpec": raw}
    for name in OF_LOSSES:
        raw["$defs"][name]["properties"]["losses"] = {"$ref": "#/$defs/Losses"}
    for name, texts in meanings().items():
        for key, text in texts.items():
            properties = classes.get(name, {}).get("properties", {})
            if key not in properties:
                raise ValueError(f"{MEANINGS.name}: [{name}] {key}: there is no such key")
            properties[key]["description"] = text
    for each in classes.values():
        each.pop("description", None)  # the description is for programmers
    raw["$defs"]["ExportSpec"]["properties"]["formats"]["items"] |= {"enum": sorted(exporters())}
    for name in ("NetworkSpec", "TeacherSource", "TeacherSpec", "StudentSpec"):
        raw["$defs"][name]["properties"]["backbone"] |= {"anyOf": backbone_names()}
    del raw["$defs"]["LossSettings"]
    raw["$defs"]["Losses"] = losses_schema()
    found: dict[str, Any] = cleaned(raw)
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Job spec", **found}


def schema_text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    part = without_null(part)
    if "$ref" in part:
        return {**schema()["$defs"][part["$ref"].rpartition("/")[2]], **part}
    return part


def constraint(part: dict[str, Any]) -> str:
    """A type with its bounds or choices, in words."""
    part = without_null(part)
    if "$ref" in part:
        return "table"
    if any(len(each.get("enum", ())) > MANY for each in part.get("anyOf", ())):
        return "string"
    if "anyOf" in part:
        return " or ".join(constraint(each) for each in part["anyOf"])
    if "enum" in part:
        return ", ".join(toml_value(each) for each in part["enum"])
    if "const" in part:
        return toml_value(part["const"])
    kind = str(part.get("type", "any"))
    if kind == "array":
        inside = constraint(part["items"]) if "items" in part else "any"
        size = part.get("minItems") if part.get("minItems") == part.get("maxItems") else None
        return f"array of {size or ''} {inside}".replace("  ", " ")
    if kind == "object":
        return "table"
    names = {"integer": "integer", "number": "float", "boolean": "boolean", "string": "string"}
    return " ".join([names.get(kind, kind), *bounds(part)])


def bounds(part: dict[str, Any]) -> Iterator[str]:
    for exclusive, above, inclusive, upto in (
        ("exclusiveMinimum", "above", "minimum", "from"),
        ("exclusiveMaximum", "below", "maximum", "to"),
    ):
        key, word = (exclusive, above) if exclusive in part else (inclusive, upto)
        if key in part:
            bound = part[key]
            shown = f"{bound:g}".replace("e+0", "e").replace("e+", "e")
            yield f"{word} {shown if isinstance(bound, float) else bound}"


def shown_default(part: dict[str, Any], required: bool = False) -> str:
    if required:
        return "required"
    value = part.get("default")
    if value is None:
        return "" if constraint(part) == "table" else "none"
    return f"`{toml_value(value)}`"


def tables(part: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables of a spec by path, outermost first."""
    part = resolved(part)
    if "properties" not in part or path.endswith("losses"):
        return
    yield path, part
    for key, inside in part["properties"].items():
        inside = without_null(inside)
        many = inside.get("type") == "array" and "$ref" in inside.get("items", {})
        inner = inside["items"] if many else inside
        if "$ref" in inner:
            below = f"{path}.{key}".lstrip(".") + ("[]" if many else "")
            yield from tables(inner, below)


def heading(path: str) -> str:
    name = path.replace("[]", "")
    return f"[[{name}]]" if path.endswith("[]") else f"[{name}]"


def page() -> str:
    parts, shown = [NOTICE, HEAD], {}
    for path, part in tables(schema(), ""):
        same = shown.setdefault(id(part.get("properties")), path)
        parts.append(f"## `{heading(path)}`\n" if path else "## Top level\n")
        if same != path:
            parts.append(f"The keys are those of [`{heading(same)}`](#{anchor(same)}).\n")
            continue
        required = part.get("required", [])
        rows = [
            (f"`{key}`", constraint(each), shown_default(each, key in required),
             each.get("description", ""))
            for key, each in part["properties"].items()
        ]  # fmt: skip
        parts.append(table(("key", "type and range", "default", "meaning"), rows))
    parts.append("## Losses\n\nThe keys of `losses` are in [losses.md](losses.md#reference).\n")
    return "\n".join(parts)


def anchor(path: str) -> str:
    return path.replace(".", "").replace("[]", "")


def keys_without_meaning() -> list[str]:
    return [
        f"{path}.{key}".lstrip(".")
        for path, part in tables(schema(), "")
        for key, each in part["properties"].items()
        if not each.get("description")
    ]
