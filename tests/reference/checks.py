"""Every noise check: docs/checks.md."""

import inspect
import sys

from curation.noise.check import NoiseCheck, all_checks
from tests.reference.text import NOTICE, markdown, paragraph, table

HEAD = """# Noise checks

`curate check` runs these in this order. A score is the probability of a fault, and a score above
0.5 is a flag. Of two checks that flag the same image, the one with the higher precedence decides.
[The guide](guide.md#checking-and-cleaning) shows how to use them;
[formats.md](formats.md#findings-namefindings) describes the files that they write. You can
[add a check](how-to/add-a-check.md) in one file.
"""


def one(check: NoiseCheck) -> str:
    kind = type(check)
    said = check.explanation
    parts = [
        f"## {check.name}\n",
        f"{said.meaning} {said.look} {said.action}".replace("  ", " ") + "\n",
        markdown(sys.modules[kind.__module__].__doc__ or ""),
        markdown(inspect.getdoc(kind.score) or ""),
        f"Source: `{kind.__module__.replace('.', '/')}.py`\n",
    ]
    return "\n".join(part for part in parts if part)


def page() -> str:
    checks = all_checks()
    by_precedence = sorted(checks.values(), key=lambda check: (check.precedence, check.name))
    ranks = {check.name: str(rank) for rank, check in enumerate(by_precedence, 1)}
    overview = table(
        ("check", "scores each", "finds", "precedence"),
        [
            (f"[`{name}`](#{name})", check.subject, paragraph(check.explanation.title), ranks[name])
            for name, check in checks.items()
        ],
    )
    return "\n".join([NOTICE, HEAD, overview, *map(one, checks.values())])
