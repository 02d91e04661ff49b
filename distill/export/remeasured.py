"""Adds thresholds measured on other sets to a copy of a bundle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.files import read_whole
from curation.json_text import parse_json
from distill.export.bundle import describe, write_json
from distill.export.bundle_files import LARGEST_JSON, check_bundle
from distill.export.config import BundleConfig, Origin, Thresholds
from distill.export.model_card import model_card
from distill.export.origin import scores_of


def put_thresholds(folder: Path, reports: dict[str, Any], thresholds: dict[str, Any]) -> None:
    """Replace the thresholds of the bundle in ``folder``, and add the ``reports`` behind them.

    ``reports`` and ``thresholds`` are ``sets`` and ``thresholds`` in the result of
    `distill.evaluation.evaluate`. A FAR that they do not measure keeps its threshold. Rewrites the
    card and the checksums. Raises ``UserError`` if the bundle's evaluation has another format.
    """
    config, old = check_bundle(folder)
    measured = {
        rate: found for rate, found in thresholds["false_accept_rates"].items() if found is not None
    }
    kept = old.model_dump(mode="json")
    best = thresholds["best_accuracy"] or kept["best_accuracy"]
    rates = {**kept["false_accept_rates"], **measured}
    merged = {**kept, "false_accept_rates": rates, "best_accuracy": best}
    evaluation = read_object(folder / "evaluation.json")
    sets = evaluation.get("sets")
    evaluation["sets"] = {**(sets if isinstance(sets, dict) else {}), **reports}
    evaluation["thresholds"] = merged
    checked = Thresholds.model_validate_json(json.dumps(merged))
    write_json(folder / "thresholds.json", checked.model_dump(mode="json"))
    describe_again(folder, config.model_copy(update={"thresholds": checked}), evaluation)


def check_describable(bundle: Path) -> None:
    """Raise ``UserError`` if ``describe_again`` would; call this before long measurements."""
    config, _ = check_bundle(bundle)
    with _known_format(bundle):
        evaluation = read_object(bundle / "evaluation.json")
        spec = read_object(bundle / "lineage.json").get("spec")
        model_card(bundle.name, _with_scores(config, evaluation), evaluation, spec)


def describe_again(folder: Path, config: BundleConfig, evaluation: dict[str, Any]) -> None:
    """Rewrite the description of a bundle after some of its files have changed.

    Raises ``UserError`` if its evaluation has another format.
    """
    lineage = read_object(folder / "lineage.json")
    name = str(lineage.get("job") or folder.name)
    write_json(folder / "evaluation.json", evaluation)
    with _known_format(folder):
        describe(folder, name, _with_scores(config, evaluation), evaluation, lineage)


def _with_scores(config: BundleConfig, evaluation: dict[str, Any]) -> BundleConfig:
    """The config with these scores.

    ``ValueError`` if it could not be read again, or if the thresholds in ``evaluation`` are not of
    this form, because the model card shows their keys as they are.
    """
    Thresholds.model_validate_json(json.dumps(evaluation["thresholds"]))
    origin = {**(config.origin or Origin()).model_dump(), "scores": scores_of(evaluation)}
    return config.model_copy(update={"origin": Origin.model_validate(origin)})


@contextmanager
def _known_format(folder: Path) -> Iterator[None]:
    """Convert errors from bad values in ``evaluation.json`` to ``UserError``."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
        raise UserError(
            f"{folder / 'evaluation.json'}: its scores have an unexpected form; export the network "
            "again with this version"
        ) from None


def read_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file of a bundle; empty if the file holds another value."""
    value = parse_json(read_whole(path, LARGEST_JSON))
    return value if isinstance(value, dict) else {}
