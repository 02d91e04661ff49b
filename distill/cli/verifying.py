"""`distill verify`: checks a bundle's files, signature and golden embeddings."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from distill.cli.bundles import BundleArgument, PublicKeyOption
from distill.cli.common import NETWORKS, JsonOption, print_json
from distill.cli.extras import install_hint
from distill.cli.reports import print_table
from distill.cli.screen import note, say

if TYPE_CHECKING:
    from distill.export.config import BundleConfig


@dataclass(frozen=True)
class GoldenCheck:
    """The lowest cosine of a runtime with the golden embeddings.

    Without a ``cosine``, either the runtime was ``unchecked`` or the bundle has a ``fault``; each
    is the reason.
    """

    cosine: float | None = None
    unchecked: str = ""
    fault: str = ""

    def __str__(self) -> str:
        if self.cosine is not None:
            return f"{self.cosine:.7f}"
        return f"not checked: {self.unchecked}" if self.unchecked else "bad"


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=NETWORKS)(verify)


def verify(bundle: BundleArgument, key: PublicKeyOption = None, json: JsonOption = False) -> None:
    """Check a bundle: its checksums, and its golden embeddings in PyTorch and each of its formats.

    All formats are checked; the exit status is 1 if any is bad. Formats whose runtime is not
    installed are listed as unchecked. With --key the signature is checked before anything of the
    bundle is run.

    Example: distill verify workspace/bundles/sample

    Example: distill verify workspace/bundles/sample --key sign.pub
    """
    from curation.errors import UserError
    from distill.export.bundle_files import check_bundle

    config, _ = check_bundle(bundle)
    if key is not None:
        from distill.export.signatures import check_signature

        check_signature(bundle, key)
    checks = golden_checks(bundle, config)
    faults = {name: check.fault for name, check in checks.items() if check.fault}
    if json:
        print_json(_report(bundle, checks, signed=key is not None))
    else:
        say(f"{bundle}: all files match their checksums")
        if key is not None:
            say(f"{bundle}: signed by the owner of {key}")
        rows = [(name, str(check)) for name, check in checks.items()]
        print_table(["runtime", "lowest cosine with the golden embeddings"], rows)
        for name, fault in faults.items():
            note(f"{name}: {fault}")
    if faults:
        raise UserError(
            f"{bundle}: {len(faults)} of {len(checks)} runtimes are bad: {', '.join(faults)}; do "
            "not use these"
        )


def golden_checks(bundle: Path, config: "BundleConfig") -> dict[str, GoldenCheck]:
    """The check of every format of a bundle, and of PyTorch."""
    from distill.export.embedder import runtimes_of

    unknown = GoldenCheck(unchecked="the exporter is not installed here")
    checks = dict.fromkeys(config.formats, unknown)
    return {**checks, **{name: _check(bundle, name) for name in runtimes_of(config)}}


def _check(bundle: Path, runtime: str) -> GoldenCheck:
    from curation.errors import UserError
    from distill.export.embedder import TORCH, BundleEmbedder
    from distill.export.exporter import exporters

    if runtime != TORCH and (reason := exporters()[runtime].why_not_run()):
        return GoldenCheck(unchecked=reason)
    try:
        return GoldenCheck(BundleEmbedder(bundle, runtime).check_golden())
    except ModuleNotFoundError as error:
        if (advice := install_hint(error)) is None:
            raise
        return GoldenCheck(unchecked=advice)
    except UserError as error:
        return GoldenCheck(fault=str(error))


def _report(bundle: Path, checks: dict[str, GoldenCheck], signed: bool) -> dict[str, Any]:
    """The result as JSON; a cosine is null where it is unchecked or bad."""
    return {
        "bundle": str(bundle),
        "checksums": "ok",
        "golden_cosines": {name: check.cosine for name, check in checks.items()},
        "unchecked": {name: check.unchecked for name, check in checks.items() if check.unchecked},
        "faults": {name: check.fault for name, check in checks.items() if check.fault},
        **({"signature": "ok"} if signed else {}),
    }
