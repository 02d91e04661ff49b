"""Two ranks score a network together; run by test_distributed.py.

``torchrun --nproc-per-node 2 rank_scoring.py FOLDER``: a rank writes the joint scores, those of the
first network alone, the number of images it embedded, and the error for a bad image.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from small_training import PREPROCESSING, make_network

from curation.errors import UserError
from curation.images import encode_jpeg
from curation.pairs import VerificationPairs
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.features import BATCH
from distill.evaluation.set_features import NetworkFeatures
from distill.pipeline.scores import PairAccuracies, accuracies
from distill.training import distributed
from teachers.embedder import TorchEmbedder

IMAGES = 5 * BATCH // 2


def pairs(name: str, bad: int | None = None) -> VerificationPairs:
    rng = np.random.default_rng(0)
    images = [encode_jpeg(each) for each in rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)]
    if bad is not None:
        images[bad] = b"no picture"
    return VerificationPairs(images, np.arange(IMAGES // 2) % 2 == 0, name, name)


def main() -> None:
    sets = [pairs("a"), pairs("b")]
    # The second rank has its own statistics, which must not count.
    own = make_network(distributed.rank()).state_dict()
    asked: list[int] = []
    with distributed.process_group():
        scored = PairAccuracies(make_network(), PREPROCESSING, sets, seconds=1e6)
        together = scored(own, lambda done, total: asked.append(total))
        first = NetworkFeatures(TorchEmbedder(make_network(0), PREPROCESSING, "alone"))
        alone = accuracies(evaluate(first, sets, intervals=False))
        # The second batch belongs to the second rank.
        damaged = PairAccuracies(make_network(), PREPROCESSING, [pairs("bad", BATCH + 1)])
        try:
            damaged(own, lambda done, total: None)
            said = ""
        except UserError as error:
            said = str(error)
        told = {"together": together, "alone": alone, "asked": sorted(set(asked)), "said": said}
        (Path(sys.argv[1]) / f"{distributed.rank()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
