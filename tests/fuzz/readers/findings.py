"""Findings, the decisions on them, and the page about them."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from curation.noise.analysis import analyse
from curation.noise.clean import write_clean
from curation.noise.decisions import DECISIONS_FILE, Decision, write_decisions
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Findings
from curation.noise.overrides import chosen_decisions
from curation.noise.proposals import propose
from curation.report.page import write_report
from curation.report.siblings import decisions_of
from curation.store import Store
from tests.fuzz.harness import Files, Special, reader, take_in
from tests.fuzz.mutators import change_text
from tests.fuzz.small_sets import change_member, small_store, store_beside

EMBEDDINGS = "34" * 32


def _embedded(store: Store) -> EmbeddedImages:
    noise = np.random.default_rng(1)
    people = noise.standard_normal((store.identities, 8))
    vectors = people[store.labels] + 0.3 * noise.standard_normal((len(store), 8))
    norm = np.linalg.norm(vectors, axis=1).astype(np.float32)
    unit = (vectors / norm[:, None]).astype(np.float32)
    return EmbeddedImages(store.labels, unit, norm, store.rows)


def _samples() -> list[Files]:
    store = small_store()
    with tempfile.TemporaryDirectory(dir=store.path.parent) as folder:
        analyse(store, _embedded(store), EMBEDDINGS, Path(folder))
        return [take_in(Path(folder))]


def _unfinished() -> list[Files]:
    return [{name: content for name, content in _samples()[0].items() if name != "mixed.npz"}]


@reader("findings", _samples, [change_member], share=0.6)
def read(folder: Path) -> None:
    """Use the findings as `report` and `clean` do."""
    store = store_beside(folder)
    folder = folder.rename(folder.with_name("train.findings"))
    findings = Findings(folder, store)
    list(propose(findings, _embedded(store)))
    decisions_of(findings)
    write_report(folder.with_name("page.html"), store, findings)
    decisions = chosen_decisions(folder / DECISIONS_FILE, [], store, folder)
    write_clean(folder.with_name("clean.view"), store, decisions)


@reader("checked again", _unfinished, [change_member], share=0.1)
def read_again(folder: Path) -> None:
    """Use the findings as `check` does: resume, and repeat damaged parts."""
    store = store_beside(folder)
    folder = folder.rename(folder.with_name("train.findings"))
    analyse(store, _embedded(store), EMBEDDINGS, folder)


def _tables() -> list[Files]:
    lines = [
        Decision("drop", 0, 2, None, "misplaced", 0.9, "a note", True, "misplaced-0123456789ab"),
        Decision("move", 0, 1, 2, "misplaced", 0.95),
        Decision("split", 2, 7, 1, "mixed", 0.8),
        Decision("drop-identity", 1, check="overlap"),
        Decision("merge", 3, None, 2, "divided", 0.7, apply=False),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DECISIONS_FILE
        write_decisions(path, small_store().digest, lines)
        table = path.read_bytes()
        write_decisions(path, small_store().digest, [replace(lines[1], into=3)])
        return [{"decisions.tsv": table, "mine.tsv": path.read_bytes()}]


def _another_cell(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Copy a cell from another line or column, or write one that no spreadsheet would."""
    name = rng.choice(sorted(files)) if files else ""
    content = files.get(name)
    if not isinstance(content, bytes):
        return
    rows = [line.split(b"\t") for line in content.split(b"\n")]
    row = rng.choice(rows)
    odd = [
        b'"a\nb"',
        b'"',
        b"\x1b[31m",
        b"misplaced-\n",
        b"999999999999999",
        b"-1",
        b"merge",
        b"=1",
    ]
    row[rng.randrange(len(row))] = rng.choice([*odd, rng.choice(rng.choice(rows))])
    files[name] = b"\n".join(map(b"\t".join, rows))
    if rng.random() < 0.2:
        files[name] = change_text(rng, files[name])


@reader("decisions", _tables, [_another_cell])
def read_table(folder: Path) -> None:
    """Apply the decisions, some overridden by another table."""
    store = store_beside(folder)
    tables = folder / "decisions.tsv", [folder / "mine.tsv"]
    decisions = chosen_decisions(*tables, store, folder.with_name("none.findings"))
    write_decisions(folder.with_name("again.tsv"), store.digest, decisions)
    write_clean(folder.with_name("clean.view"), store, decisions)
