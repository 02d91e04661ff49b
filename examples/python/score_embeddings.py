"""Score embeddings from any network on all pairs of images: TAR at low FAR, exactly.

python examples/python/score_embeddings.py embeddings.npy labels.npy
"""

import sys

import numpy as np

from distill.evaluation.all_pairs import all_pairs


def main(embeddings: str, labels: str) -> None:
    vectors = np.load(embeddings).astype(np.float32)  # [N, D]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    report = all_pairs(unit, np.load(labels))
    print(f"{report['genuine']:,} genuine and {report['impostors']:,} impostor pairs")
    for far, rate in report["tar_at_far"].items():
        if rate["tar"] is None:
            print(f"TAR at FAR {far}: {rate['reason']}")
        else:
            print(f"TAR at FAR {far}: {rate['tar']:.4f} above a cosine of "
                  f"{rate['cosine_threshold']:.4f}")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
