"""Subsets by number of images, by random choice, or by a measure of each image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.view.options import Destination, Parent, Seed, make_view
from distill.cli.screen import note

if TYPE_CHECKING:
    from curation.image_set import ImageSet
    from curation.views import View


def long_tail_cut(
    parent: Parent,
    destination: Destination,
    minimum: Annotated[
        int,
        typer.Option(
            min=2, help="Keep identities with at least this many images.", show_default=False
        ),
    ],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop identities with few images.

    **Example**

    `curate view long-tail-cut ms1m/train ms1m/frequent --minimum 5`
    """
    from curation.subsets import write_long_tail_cut

    make_view(write_long_tail_cut, [parent], destination, workspace, as_json, minimum=minimum)


def retina_s(
    parent: Parent,
    destination: Destination,
    maximum: Annotated[
        int, typer.Option(min=1, help="Keep identities with at most this many images.")
    ] = 50,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop identities with many images, as the Bitmain paper does for its Retina-S.

    **Example**

    `curate view retina-s train.lmdb retina-s.view --maximum 50`
    """
    from curation.subsets import write_retina_s

    make_view(write_retina_s, [parent], destination, workspace, as_json, maximum=maximum)


def cap(
    parent: Parent,
    destination: Destination,
    each: Annotated[
        int,
        typer.Option(
            min=1, help="Keep at most this many images of each identity.", show_default=False
        ),
    ],
    seed: Seed = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep at most N images of each identity, chosen at random.

    The choice depends on the seed and the position of each image in the store. It is the same on
    every machine, and a larger --each keeps every image that a smaller one keeps.

    **Example**

    `curate view cap ms1m/train ms1m/twenty-each --each 20`
    """
    from curation.subsets import write_cap

    make_view(write_cap, [parent], destination, workspace, as_json, maximum=each, seed=seed)


def random(
    parent: Parent,
    destination: Destination,
    identities: Annotated[
        int | None, typer.Option(help="The number of identities to keep.", show_default=False)
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(help="The share of the identities to keep, 0 to 1.", show_default=False),
    ] = None,
    seed: Seed = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep identities chosen at random, with all their images: --identities N or --fraction X.

    **Examples**

    `curate view random ms1m/train ms1m/thousand --identities 1000`

    `curate view random ms1m/train ms1m/tenth --fraction 0.1 --seed 3`
    """
    from curation.subsets import write_random_identities

    make_view(
        write_random_identities, [parent], destination, workspace, as_json,
        identities=identities, fraction=fraction, seed=seed,
    )  # fmt: skip


def quality(
    parent: Parent,
    destination: Destination,
    measure: Annotated[
        str | None,
        typer.Option(
            help="Compute a measure: sharpness, brightness or contrast.", show_default=False
        ),
    ] = None,
    values: Annotated[
        Path | None,
        typer.Option(
            help="Read the numbers from a .npy file, one for each image.", show_default=False
        ),
    ] = None,
    at_least: Annotated[
        float | None, typer.Option(help="The lowest value to keep.", show_default=False)
    ] = None,
    at_most: Annotated[
        float | None, typer.Option(help="The highest value to keep.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep images whose measure is within limits, both inclusive.

    --values may be the norms of an embedding cache (norm.npy), or any array with one number for
    each image of the store or of PARENT.

    **Examples**

    `curate view quality ms1m/train ms1m/sharp --measure sharpness --at-least 60`

    `curate view quality ms1m/train ms1m/sure --values norm.npy --at-least 12.5`
    """
    from curation.subsets import write_quality

    def write(path: Path, images: "ImageSet") -> "View":
        numbers, name = _values(images, measure, values)
        return write_quality(path, images, numbers, name, at_least, at_most)

    make_view(write, [parent], destination, workspace, as_json)


def _values(images: "ImageSet", measure: str | None, values: Path | None) -> tuple[Any, str]:
    from curation.errors import UserError
    from curation.quality import MEASURES, measure_images
    from curation.subsets import load_values, spread
    from curation.suggestions import meant

    if (measure is None) == (values is None):
        raise UserError("give either --measure NAME or --values FILE.npy")
    if values is not None:
        numbers, name = load_values(values, images), values.name
    elif measure in MEASURES:
        with watch("measure", "images", at_once=False) as progress:
            numbers, name = measure_images(images, measure, progress), measure
    else:
        allowed = f"allowed: {', '.join(MEASURES)}{meant(str(measure), MEASURES)}"
        raise UserError(f"--measure is {measure!r}; {allowed}")
    note(f"{name} of these images: {spread(numbers)}")
    return numbers, name
