"""Checks that a job's images cover the input of its networks without distortion."""

from collections.abc import Mapping

from curation.errors import UserError
from curation.toml_positions import Location
from curation.views import ImageSet
from distill.pipeline.evaluation_fit import EvaluationSet
from distill.spec import JobSpec
from distill.spec_errors import SpecError
from teachers.embedder import Embedder
from teachers.ensemble import Ensemble
from teachers.framing import visible_part


def input_sizes(embedder: Embedder) -> list[tuple[int, int]]:
    """The input (height, width) of a network, or of each member of an ensemble."""
    members = embedder.members if isinstance(embedder, Ensemble) else [embedder]
    return [member.preprocessing.size for member in members]


def check_image_sizes(
    spec: JobSpec,
    images: ImageSet,
    sets: Mapping[str, EvaluationSet],
    networks: Mapping[Location, list[tuple[int, int]]],
) -> None:
    """Raise ``SpecError`` if images show less than a network's input.

    ``networks`` are input sizes by the place in the spec that they come from.
    """
    shown = {f"data.train {spec.data.name!r}": images.image_size}
    shown |= {f"data.evaluate {name!r}": each.image_size for name, each in sets.items()}
    for what, image in shown.items():
        for key, sizes in networks.items():
            for size in sizes:
                try:
                    visible_part(image, size)
                except UserError as error:
                    raise SpecError(key, f"{what}: {error}") from None
