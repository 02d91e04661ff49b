"""The results of `just bench-learning` from this and earlier runs: means and deviations over seeds.

``learning_results.json`` stores them, so that a table can have rows of several machines.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from curation.files import atomic_file

KEPT = Path(__file__).with_name("learning_results.json")
TEACHER = "teacher"
Scores = dict[str, dict[str, float]]
"""By set and name of the score."""
Key = tuple[str, str, int]
"""Student, recipe and generation."""
Points = list[tuple[float, float]]
"""(Epochs, mean accuracy on the sets of pairs)."""


@dataclass(frozen=True)
class Result:
    """Scores of a recipe's networks of ``seeds`` seeds after a generation: (mean, deviation).

    ``curve`` has the scores of the first seed during training, if any. ``differences`` has, by
    recipe, the difference in mean accuracy on the sets of pairs from that recipe, with the bounds
    of its 95 % interval.
    """

    student: str
    recipe: str
    generation: int
    seeds: int
    scores: dict[str, dict[str, tuple[float, float]]]
    curve: Points = field(default_factory=list)
    differences: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.student, self.recipe, self.generation

    def mean(self, each: str, score: str = "accuracy") -> float | None:
        """None if it was not measured."""
        found = self.scores.get(each, {}).get(score)
        return None if found is None else found[0]

    def deviation(self, each: str, score: str = "accuracy") -> float:
        """Over the seeds."""
        return self.scores[each][score][1]


def over_seeds(
    student: str, recipe: str, generation: int, seeds: list[Scores], curve: Points
) -> Result:
    """The result of networks that differ in their seeds."""
    scores = {
        each: {score: _over([one[each][score] for one in seeds]) for score in values}
        for each, values in seeds[0].items()
        if all(each in one for one in seeds)
    }
    return Result(student, recipe, generation, len(seeds), scores, curve)


def _over(values: list[float]) -> tuple[float, float]:
    return round(float(np.mean(values)), 5), round(float(np.std(values)), 5)


def merged(kept: Iterable[Result], measured: Iterable[Result]) -> list[Result]:
    """``measured`` results replace stored ones unless those have more seeds."""
    found = {result.key: result for result in kept}
    for result in measured:
        before = found.get(result.key)
        if before is None or before.seeds <= result.seeds:
            found[result.key] = result
    return list(found.values())


def read_results(path: Path = KEPT) -> list[Result]:
    return [Result(**result) for result in json.loads(path.read_text())]


def write_results(results: list[Result], path: Path = KEPT) -> None:
    """One result per line."""
    lines = [json.dumps(asdict(result), ensure_ascii=False) for result in results]
    with atomic_file(path) as file:
        file.write(("[\n" + ",\n".join(lines) + "\n]\n").encode())
