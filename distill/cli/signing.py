"""`distill sign`: sign a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from curation.printable import argument
from distill.cli.bundles import BundleArgument
from distill.cli.common import NETWORKS, JsonOption, print_json
from distill.cli.screen import say


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=NETWORKS)(sign)


def sign(
    bundle: BundleArgument,
    key: Annotated[
        Path,
        typer.Option(help="A PEM file with your private ed25519 key.", show_default=False),
    ],
    json: JsonOption = False,
) -> None:
    """Sign a bundle, so that others can check that it is yours: `distill verify --key`.

    The signature is the file SHA256SUMS.sig; a change of the bundle removes it. Make a key with
    `openssl genpkey -algorithm ed25519 -out sign.pem`, and give others the public key that `openssl
    pkey -in sign.pem -pubout -out sign.pub` writes.

    Example: distill sign workspace/bundles/sample --key sign.pem
    """
    from distill.export.signatures import sign

    path = sign(bundle, key)
    if json:
        print_json({"bundle": str(bundle), "signature": str(path)})
        return
    say(f"{path}: written; `distill verify {argument(bundle)} --key sign.pub` checks it")
