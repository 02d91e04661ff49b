"""Tries which students can be exported in which formats, and records it in ``students.json``.

Run ``just formats-page``; it also writes the table in docs/bundle.md. An interrupted run continues.
"""

import json
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from curation.errors import UserError
from curation.files import atomic_file
from distill.backbones import NETWORKS, create
from distill.export.exporter import exporters, write_format
from distill.export.golden import write_golden
from distill.export.source import ExportSource
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing

RECORD = Path(__file__).with_name("students.json")
FORMATS = ("onnx", "onnx-fp16", "ncnn", "openvino", "litert")
STUDENTS = [
    name for name, entry in NETWORKS.items() if entry.build.__module__.startswith("distill.")
]
Record = dict[str, dict[str, str | None]]
"""By student and format: None if the export passed its check, otherwise the reason."""


@lru_cache(maxsize=1)
def source_of(name: str) -> ExportSource:
    """The network at its default size, with random weights and the batch statistics of noise.

    With other statistics, a deep network hardly depends on its images.
    """
    torch.manual_seed(0)
    entry = NETWORKS[name]
    network = create(name, entry.embedding, entry.input_size)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = None  # the mean over all batches
    with torch.no_grad():
        network.train()(torch.rand(8, 3, *entry.input_size) * 2 - 1)
    network.eval()
    return ExportSource(network, Preprocessing.ours(entry.input_size))


def why_not(name: str, format: str) -> str | None:
    """None if the student's export passed its check, otherwise the exporter's error."""
    source = source_of(name)
    with tempfile.TemporaryDirectory() as place:
        embedder = TorchEmbedder(source.network, source.preprocessing, "", device="cpu")
        write_golden(Path(place), embedder, source.size)
        try:
            write_format(format, Path(place), source)
        except UserError as error:
            return str(error).split(";")[0].replace(place, "")[:200]
    return None


def is_installed(format: str) -> bool:
    found = exporters()[format]
    return found.lacks((*found.writes_with, *found.runs_with)) is None


def read_record() -> Record:
    return json.loads(RECORD.read_text())


def table() -> str:
    """The table of docs/bundle.md."""
    return table_of(read_record())


def table_of(record: Record) -> str:
    """Lists the exported students by the formats tried, the failures, and the number of others."""
    tried = {name: record[name] for name in STUDENTS if record.get(name)}
    good = [name for name, found in tried.items() if not any(found.values())]
    untried = {name: tuple(each for each in FORMATS if each not in tried[name]) for name in good}
    parts = []
    for left in sorted(set(untried.values()), key=lambda left: (len(left), left)):
        done = [each for each in FORMATS if each not in left]
        note = f" ({_names(left)} not tried)" if left else ""
        names = [name for name in good if untried[name] == left]
        parts.append(f"In {_names(done)}{note}: {_names(names)}.")
    bad = [
        f"| `{name}` | `{format}` | {reason} |"
        for name in tried
        for format, reason in tried[name].items()
        if reason
    ]
    if bad:
        parts.append("\n".join(["| student | format | why not |", "|---|---|---|", *bad]))
    if others := len(STUDENTS) - len(tried):
        parts.append(f"{others} students were not tried yet.")
    return "\n\n".join(parts) + "\n"


def _names(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main(names: list[str]) -> None:
    """Try the exports that the record lacks, for the named students or for all."""
    record: Record = read_record() if RECORD.exists() else {}
    for name in names or STUDENTS:
        for format in FORMATS:
            if format not in record.get(name, {}) and is_installed(format):
                found = why_not(name, format)
                sys.stdout.write(f"{name}, {format}: {found or 'good'}\n")
                sys.stdout.flush()
                record.setdefault(name, {})[format] = found
                with atomic_file(RECORD) as file:
                    file.write(f"{json.dumps(record, indent=1, sort_keys=True)}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1:])
