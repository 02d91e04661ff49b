"""Whether the networks of a job can see its images without squeezing them."""

from collections.abc import Mapping
from pathlib import Path

from curation.errors import UserError
from curation.pairs import read_pairs
from curation.views import open_images
from curation.workspace import Workspace
from distill.spec import JobSpec
from distill.spec_checks import evaluation_sets
from teachers.embedder import Embedder
from teachers.ensemble import Ensemble
from teachers.framing import visible_part


def input_sizes(embedder: Embedder) -> list[tuple[int, int]]:
    """(height, width) of the input of a network, or of each of an ensemble's."""
    members = embedder.members if isinstance(embedder, Ensemble) else [embedder]
    return [member.preprocessing.size for member in members]


def check_image_sizes(
    spec: JobSpec, workspace: Workspace, networks: Mapping[str, list[tuple[int, int]]]
) -> None:
    """Raise ``UserError`` where images show less than a network sees; reads headers alone.

    ``networks`` are input sizes by the key of the spec that they come from.
    """
    train = workspace.image_set(spec.data.train)
    images = {f"data.train {spec.data.train!r}": open_images(train).image_size}
    for name, path in evaluation_sets(spec, workspace).items():
        images[f"data.evaluate {name!r}"] = _image_size(path)
    for what, image in images.items():
        for key, sizes in networks.items():
            for size in sizes:
                try:
                    visible_part(image, size)
                except UserError as error:
                    raise UserError(f"{what} and {key}: {error}") from None


def _image_size(path: Path) -> tuple[int, int]:
    return read_pairs(path).image_size if path.is_file() else open_images(path).image_size
