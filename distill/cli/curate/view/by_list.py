"""Subsets and regroupings defined by text files."""

from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.view.options import Destination, Listed, ListedBy, Parent, make_view

if TYPE_CHECKING:
    from curation.subsets import By

SkipMissing = Annotated[
    bool,
    typer.Option(
        "--skip-missing",
        help="Skip lines that name images or identities missing in PARENT, and report their "
        "number.",
    ),
]


def keep(
    parent: Parent,
    destination: Destination,
    listed: Listed,
    by: ListedBy = "label",
    skip_missing: SkipMissing = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep only the images that a text file lists.

    The file has one or more whole numbers on each line; `#` starts a comment. --by states what the
    numbers are: label or key (labels or record keys of the source), or index or identity (of
    PARENT). With --by name, each line has the path of an image in the folder, list or archive that
    was converted, or of a folder there, which stands for all its images; other columns are
    ignored.

    **Examples**

    `curate view keep ms1m/train ms1m/selected keep.txt --by label`

    `curate view keep mine/train mine/selected names.txt --by name`

    `curate view keep ms1m/train ms1m/published clean_list.txt --by name --skip-missing`
    """
    from curation.subsets import write_keep

    wanted = {"listed": listed, "by": _by(by), "skip_missing": skip_missing}
    make_view(write_keep, [parent], destination, workspace, as_json, **wanted)


def drop(
    parent: Parent,
    destination: Destination,
    listed: Listed,
    by: ListedBy = "label",
    skip_missing: SkipMissing = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop the images that a text file lists, in the format of `curate view keep`.

    **Example**

    `curate view drop ms1m/train ms1m/without overlap.txt --by key`
    """
    from curation.subsets import write_drop

    wanted = {"listed": listed, "by": _by(by), "skip_missing": skip_missing}
    make_view(write_drop, [parent], destination, workspace, as_json, **wanted)


def merge(
    parent: Parent,
    destination: Destination,
    listed: Listed,
    by: ListedBy = "label",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge identities: each line of a text file lists identities that are one person.

    **Example**

    `curate view merge ms1m/train ms1m/merged same-people.txt --by identity`
    """
    from curation.subsets import write_merge_list

    make_view(
        write_merge_list, [parent], destination, workspace, as_json, listed=listed, by=_by(by)
    )


def split(
    parent: Parent,
    destination: Destination,
    listed: Listed,
    by: ListedBy = "key",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Split identities by the lines `IMAGE PART` of a text file; unlisted images are part 0.

    Images of one identity with the same part stay together.

    **Example**

    `curate view split ms1m/train ms1m/split parts.txt --by key`
    """
    from curation.subsets import write_split_list

    make_view(
        write_split_list, [parent], destination, workspace, as_json, listed=listed, by=_by(by)
    )


def relabel(
    parent: Parent,
    destination: Destination,
    listed: Listed,
    by: ListedBy = "name",
    skip_missing: SkipMissing = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Assign identities by the lines `IMAGE IDENTITY` of a text file; other images keep theirs.

    With --by name, IMAGE is the path of an image in the source and IDENTITY the name of a folder
    there; lines `IDENTITY IMAGE`, as in C-MS-Celeb's lists, are also read. With --by key or index,
    IDENTITY is a label in the source. Any other word makes a new identity.

    **Examples**

    `curate view relabel msceleb/train msceleb/relabelled relabel_list.txt --skip-missing`

    `curate view relabel ms1m/train ms1m/relabelled labels.txt --by key`
    """
    from curation.subsets import write_relabel

    wanted = {"listed": listed, "by": _by(by), "skip_missing": skip_missing}
    make_view(write_relabel, [parent], destination, workspace, as_json, **wanted)


def _by(name: str) -> "By":
    from curation.errors import UserError
    from curation.subsets import By
    from curation.suggestions import meant

    if name not in list(By):
        raise UserError(f"--by is {name!r}; allowed: {', '.join(By)}{meant(name, By)}")
    return By(name)
