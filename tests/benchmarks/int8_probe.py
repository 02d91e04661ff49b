"""What int8 loses where probes are int8 and the gallery stays float32, for docs/bundle.md.

Run: python tests/benchmarks/int8_probe.py BUNDLE SET.lmdb FORMAT...
All pairs of the set's images, by the bundle's mirror rule; FORMAT is one that the bundle has, such
as onnx-int8. Prints a row of a table for each.
"""

import sys
from pathlib import Path

import numpy as np

from curation.views import open_images
from distill.evaluation.set_features import NetworkFeatures
from distill.export.embedder import BundleEmbedder

FARS = (1e-3, 1e-4)


def tars(gallery: np.ndarray, probe: np.ndarray, labels: np.ndarray) -> list[float]:
    """TAR at each of the FARs over all pairs of different images; unit features [N, D]."""
    scores = gallery @ probe.T
    same = labels[:, None] == labels[None]
    impostors = scores[~same]
    np.fill_diagonal(same, False)
    genuine = scores[same]
    kept = [int(far * len(impostors)) for far in FARS]
    ordered = np.partition(impostors, [len(impostors) - 1 - each for each in kept])
    return [float((genuine > ordered[len(impostors) - 1 - each]).mean()) for each in kept]


def main(bundle: str, path: str, *formats: str) -> None:
    images = open_images(Path(path))
    labels = np.asarray(images.labels)

    def features(runtime: str) -> np.ndarray:
        return NetworkFeatures(BundleEmbedder(bundle, runtime).network).features(images)

    whole = features("onnx")
    sys.stdout.write("| format | mean cosine | gallery and probes | TAR at FAR 1e-3 | 1e-4 |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    rows = [("float32", "-", "float32 on both sides", whole, whole)]
    for name in formats:
        found = features(name)
        cosine = f"{float(np.sum(whole * found, axis=1).mean()):.4f}"
        rows += [
            (name, cosine, "int8 on both sides", found, found),
            (name, cosine, "float32 gallery, int8 probes", whole, found),
        ]
    for name, cosine, which, gallery, probe in rows:
        at = " | ".join(f"{tar:.4f}" for tar in tars(gallery, probe, labels))
        sys.stdout.write(f"| {name} | {cosine} | {which} | {at} |\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
