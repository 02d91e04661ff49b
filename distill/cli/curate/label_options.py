"""The options for labels in unusual places, which `convert`, `inspect` and `recipe` share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from curation.sources.label_choice import LabelChoice


@dataclass(frozen=True)
class LabelOptions:
    """Where a source has its labels; by default in the usual places."""

    label_key: Annotated[
        str,
        typer.Option(
            "--label-key",
            metavar="NAME",
            help="The column of a table or list, the key in JSON files, or the suffix of the "
            "files in an archive that holds the labels, NAME.NAME if nested; by default one called "
            "label, identity, ...",
            show_default=False,
        ),
    ] = ""
    identity_folder: Annotated[
        int | None,
        typer.Option(
            "--identity-folder",
            metavar="N",
            min=1,
            help="The name of the Nth folder above an image is its identity: 1 for "
            "train/ANNA/1.jpg and test/ANNA/2.jpg, 2 for ANNA/profile/1.jpg; by default the whole "
            "path of its folder.",
            show_default=False,
        ),
    ] = None

    def choice(self, *, unlabelled: bool = False) -> "LabelChoice":
        """The place of the labels; ``UserError`` if several are given."""
        from curation.errors import UserError
        from curation.sources.label_choice import LabelChoice

        if sum(map(bool, (unlabelled, self.label_key, self.identity_folder))) > 1:
            raise UserError("give only one of --unlabelled, --label-key and --identity-folder")
        return LabelChoice(self.label_key, self.identity_folder or 0)
