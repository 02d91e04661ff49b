"""Every loss with its source, formula, settings and an example: a part of docs/losses.md."""

import sys

from distill.losses import LOSSES
from tests.reference.spec import constraint, shown_default
from tests.reference.text import code, markdown, paragraph, sections, table

NEEDS = {
    "needs_labels": "labels",
    "needs_teacher": "the teacher's embeddings",
    "needs_centres": "class weights",
    "needs_teacher_centres": "the teacher's class centres",
}


def one(names: list[str]) -> str:
    entry = LOSSES[names[0]]
    body, arguments, example = sections(entry.loss.__doc__ or "")
    schema = entry.settings.model_json_schema()["properties"]
    rows = [
        (f"`{key}`", constraint(each), shown_default(each), arguments.get(key, "see above"))
        for key, each in schema.items()
    ]
    needs = [words for flag, words in NEEDS.items() if getattr(entry.settings, flag)]
    example = "\n".join(line.removeprefix(">>> ") for line in example.splitlines())
    source = paragraph((sys.modules[entry.loss.__module__].__doc__ or "").split("\n\n")[0])
    kind = f"`distill.losses.{entry.loss.__name__}`"
    return "\n".join([
        f"### {' / '.join(names)}\n",
        f"{kind}. {source} Needs: {', '.join(needs) or 'nothing'}.\n",
        markdown(body),
        table(("setting", "type", "default", "meaning"), rows),
        code(example, "python"),
    ])  # fmt: skip


def reference() -> str:
    names: dict[type, list[str]] = {}
    for name in sorted(LOSSES):
        names.setdefault(LOSSES[name].loss, []).append(name)
    return "\n" + "\n".join(map(one, names.values())) + "\n"
