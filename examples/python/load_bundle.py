"""Say whether two aligned faces show one person.

python examples/python/load_bundle.py workspace/bundles/sample left.jpg right.jpg
"""

import sys

import distill


def main(bundle: str, left: str, right: str) -> None:
    student = distill.load(bundle)  # runs the bundle's ONNX file, without torch
    features = student.embed([left, right])  # unit vectors, float32 [2, D]
    cosine = float(features[0] @ features[1])
    best = student.thresholds.best_accuracy
    if best is None:
        print(f"cosine {cosine:.3f}; this bundle has no threshold: distill threshold chooses one")
    else:
        verdict = "one person" if cosine > best.threshold else "two people"
        print(f"cosine {cosine:.3f}: {verdict} (threshold {best.threshold:.3f}, from {best.set})")


if __name__ == "__main__":
    main(*sys.argv[1:])
