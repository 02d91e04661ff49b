"""Union, intersection and difference of two views."""

from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.view.options import Destination, Parent, make_view


def union(
    first: Parent,
    second: Parent,
    destination: Destination,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Combine two sets, of one store or of two: keep the images that are in either.

    Identities of different stores stay different people; `curate join` finds the people who are in
    both.

    **Examples**

    `curate view union ms1m/retina-s ms1m/selected ms1m/both`

    `curate view union ms1m/clean street/all ms1m/with-street`
    """
    from curation.subsets import write_union

    make_view(write_union, [first, second], destination, workspace, as_json)


def intersection(
    first: Parent,
    second: Parent,
    destination: Destination,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the images that are in both of two views of one store.

    **Example**

    `curate view intersection ms1m/clean ms1m/retina-s ms1m/clean-retina-s`
    """
    from curation.subsets import write_intersection

    make_view(write_intersection, [first, second], destination, workspace, as_json)


def difference(
    first: Parent,
    second: Parent,
    destination: Destination,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the images of the first view that are not in the second; both are views of one store.

    **Example**

    `curate view difference ms1m/train ms1m/clean ms1m/flagged`
    """
    from curation.subsets import write_difference

    make_view(write_difference, [first, second], destination, workspace, as_json)
