"""The HTTP API of the daemon: docs/http.md, from its OpenAPI description."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tests.reference.spec import constraint
from tests.reference.text import NOTICE, attribute_docs, markdown, table, toml_value

HEAD = """# HTTP API

The daemon serves HTTP on the Unix socket `daemon/api.sock` of the workspace. Only its own user
and root may connect ([daemon.md](daemon.md#the-api)).

```
curl --unix-socket workspace/daemon/api.sock http://daemon/health
```

Errors are JSON, `{"error": "one line"}`, with status 404 (no such job), 409 (the job's state does
not allow it), 413 (too large), 422 (not understood), 503 (the queue is unavailable) or 507 (the
disk is full). `GET /openapi.json` has this page for programs.
"""
HIDDEN = {"HTTPValidationError", "ValidationError"}
"""FastAPI models that our errors replace"""


def description() -> dict[str, Any]:
    from curation.workspace import Workspace
    from distill.daemon.api import create_app
    from distill.daemon.names import Checked
    from distill.daemon.opening import open_queue
    from distill.daemon.service import JobService

    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        workspace.root.mkdir()
        with open_queue(workspace) as queue:
            app = create_app(JobService(workspace, queue, lambda text: Checked()), 1)
            described: dict[str, Any] = app.openapi()
    return described


def linked(schema: dict[str, Any]) -> str:
    """The type of a response or field; models become links."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    if "anyOf" in schema:
        return " or ".join(linked(each) for each in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if schema.get("type") == "array":
        return f"array of {linked(schema.get('items', {}))}"
    if schema.get("type") == "null":
        return "null"
    if schema.get("type") == "object":
        return "object"
    return constraint(schema) if schema else "any"


def request(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"## {method.upper()} {path}\n"
    yield markdown(operation.get("description", operation.get("summary", "")))
    rows = [
        (f"`{each['name']}`", each["in"], linked(each["schema"]),
         toml_value(each["schema"]["default"]) if "default" in each["schema"] else "")
        for each in operation.get("parameters", [])
    ]  # fmt: skip
    if rows:
        yield table(("parameter", "in", "type", "default"), rows)
    for kind in operation.get("requestBody", {}).get("content", {}):
        yield f"Body: `{kind}`.\n"
    content = operation["responses"].get("200", {}).get("content", {})
    for kind, answer in content.items():
        shown = linked(answer.get("schema", {}))
        yield f"Answer: {shown}.\n" if kind == "application/json" else f"Answer: `{kind}`.\n"


def known_models() -> dict[str, type[BaseModel]]:
    """All imported models, by name."""

    def below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    return {kind.__name__: kind for kind in below(BaseModel)}


def model(name: str, schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"### {name}\n\n{', '.join(f'`{each}`' for each in schema['enum'])}\n"
    kind = known_models().get(name)
    docs = attribute_docs(kind) if kind else {}
    rows = [
        (f"`{key}`", linked(each), docs.get(key, ""))
        for key, each in schema.get("properties", {}).items()
    ]
    said = markdown(schema.get("description", ""))
    return f"### {name}\n\n{said}\n{table(('field', 'type', 'meaning'), rows)}"


def page() -> str:
    described = description()
    parts = [NOTICE, HEAD]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts += request(method, path, operation)
    parts.append("## Objects\n")
    models = described["components"]["schemas"]
    parts += [model(name, models[name]) for name in sorted(models) if name not in HIDDEN]
    return "\n".join(parts)
