"""Accuracy in finding faults planted into a real data set, compared with other cleaning methods.

Run: python tests/benchmarks/noise_quality.py --data STORE_OR_FOLDER --teacher FILE.onnx
     --embeddings FOLDER [--json]
Our checks have the same settings everywhere and flag everything more probable than not. The others
get their own default and, as "hindsight", the best threshold for each single row. Requires the
extra ``bench``: pip install -e '.[bench]'.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from fault_pictures import fault_pictures
from noise_faces import Faces, Row
from noise_identity_faults import of_divided, of_merged
from noise_image_faults import BINS, of_non_faces, of_repeated, of_wrong_labels
from plant import Marks

from curation.conversion.convert import convert
from curation.views import open_images
from distill.cli.curate.set_embedder import embed_images
from distill.pipeline.teacher_files import open_teacher
from teachers.preprocessing import Preprocessing

FAULTS: dict[str, Callable[[Faces, int], Iterator[Row]]] = {
    "wrong-labels": of_wrong_labels,
    "merged": of_merged,
    "divided": of_divided,
    "repeated": of_repeated,
    "non-faces": of_non_faces,
}


def summarised(rows: list[Row]) -> list[dict[str, str | float]]:
    """Mean scores of each method on each fault over the seeds, in the order of their first rows."""
    groups: dict[tuple[str, str, str], list[Marks]] = {}
    for row in rows:
        groups.setdefault((row.fault, row.over, row.method), []).append(row.marks)
    return [
        {
            "fault": fault,
            "over": over,
            "method": method,
            "f1": float(np.mean([one.f1 for one in seeds])),
            "sd": float(np.std([one.f1 for one in seeds])),
            "precision": float(np.mean([one.precision for one in seeds])),
            "recall": float(np.mean([one.recall for one in seeds])),
        }
        for (fault, over, method), seeds in groups.items()
    ]


def reliability(rows: list[Row]) -> list[dict[str, str | float]]:
    """For our probabilities and each kind of label error, the number of faulty images per bin."""
    kinds: dict[str, np.ndarray] = {}
    for row in rows:
        if row.reliability is not None:
            kind = row.fault.partition(" ")[0]
            kinds[kind] = kinds.get(kind, np.zeros_like(row.reliability)) + row.reliability
    return [
        {"kind": kind, "from": low, "to": high, "images": int(images), "faulty": int(faulty)}
        for kind, bins in kinds.items()
        for (low, high), (images, faulty) in zip(pairwise(BINS.tolist()), bins, strict=True)
    ]


def show_reliability(table: list[dict[str, str | float]]) -> None:
    """Print the table; for calibrated probabilities, observed and predicted shares are equal."""
    sys.stdout.write("\n| kind | probability | images | faulty |\n|---|---|---|---|\n")
    for row in table:
        share = float(row["faulty"]) / max(float(row["images"]), 1.0)
        sys.stdout.write(
            f"| {row['kind']} | {row['from']} to {row['to']} | {row['images']:,} | {share:.3f} |\n"
        )


def show(summary: list[dict[str, str | float]]) -> None:
    """Print the results."""
    sys.stdout.write(
        "| fault | over | method | F1 | precision | recall |\n|---|---|---|---|---|---|\n"
    )
    for row in summary:
        what = f"| {row['fault']} | {row['over']} | {row['method']} | {row['f1']:.3f}"
        sys.stdout.write(
            f"{what} ± {row['sd']:.3f} | {row['precision']:.3f} | {row['recall']:.3f} |\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a store, or what converts to one")
    parser.add_argument("--teacher", type=Path, required=True, help="an .onnx file")
    parser.add_argument("--embeddings", type=Path, required=True, help="where they are kept")
    parser.add_argument("--mean", type=float, default=0.0)
    parser.add_argument("--std", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--known", type=Path, help="known errors of the data, removed first")
    parser.add_argument("--only", choices=list(FAULTS), nargs="*", default=list(FAULTS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = options.data
    if data.suffix not in (".lmdb", ".view"):
        convert(data, options.embeddings / f"{data.name}.lmdb")
        data = options.embeddings / f"{data.name}.lmdb"
    images = open_images(data)
    preprocessing = Preprocessing(colour="RGB", mean=options.mean, std=options.std)
    teacher = open_teacher(options.teacher, preprocessing)
    embedded, _ = embed_images(images, teacher, options.embeddings)
    rows = []
    for seed in range(options.seeds):
        spoilt = fault_pictures(images, teacher, seed, options.embeddings)
        faces = Faces(images, embedded, spoilt, np.arange(len(images)))
        if options.known:
            faces = faces.without_known_errors(json.loads(options.known.read_text()))
        for fault in options.only:
            rows += FAULTS[fault](faces, seed)
            sys.stderr.write(f"seed {seed}: {fault} done\n")
    summary, table = summarised(rows), reliability(rows)
    if options.json:
        found = {"faults": summary, "reliability": table}
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    show(summary)
    show_reliability(table)


if __name__ == "__main__":
    main()
