"""Whether the networks of a job can see its images without squeezing them."""

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
    """(height, width) of the input of a network, or of each of an ensemble's."""
    members = embedder.members if isinstance(embedder, Ensemble) else [embedder]
    return [member.preprocessing.size for member in members]


def check_image_sizes(
    spec: JobSpec,
    images: ImageSet,
    sets: Mapping[str, EvaluationSet],
    networks: Mapping[Location, list[tuple[int, int]]],
) -> None:
    """Raise ``SpecError`` where images show less than a network sees.

    ``networks`` are input sizes by where in the spec they come from.
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
