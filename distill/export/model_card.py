"""The model card of a bundle: Markdown with front matter for model hubs."""

import json
import re
from typing import Any

from distill.export.config import BundleConfig, Measured, Origin, Sizes, Terms, licence_of_weights
from distill.export.exporter import exporters
from distill.export.format_scores import RATE, format_rows, left_out
from distill.export.framing_words import framing_words
from distill.export.markdown import fenced, plain, table
from distill.export.metadata import MIRROR

_CARD = """\
---
{front_matter}
---

# {name}

A face embedding network: {architecture}, channel width {width:g}, {dimensions} dimensions.

{sizes}## Use

```python
import distill

embedder = distill.load("path/to/this/folder")
left, right = embedder.embed(["one.jpg", "other.jpg"])
```

| | |
|---|---|
| input | a face aligned to the ArcFace template of 112x112 pixels, {framing} |
| template | left eye, right eye, nose, left and right corner of the mouth, as seen in the image: {points} |
| colour | {colour} |
| scale | `(pixel - {mean}) / {std}` of pixels 0 ... 255, NCHW float32 `[N, 3, {height}, {input_width}]` |
| output | {dimensions} numbers, not normalised |
| feature | `{mirror}`, of unit length |
| comparison | cosine |

{formats}

## Evaluation

Scores are comparable only where the digest of the set is the same. Intervals are of 95 %.

{evaluation}

{warnings}## Thresholds

{thresholds}

{note}

## Data and licences

{data}

{licences}

The network was trained on face images. Data sets such as MS1M were collected without the consent of
the people in them, were withdrawn by their publishers, and are for research only; the same terms may
apply to networks trained on them. Check the terms of the data in `lineage.json` before any use
beyond research. Error rates differ between groups of people: measure them on the people who will use
the network.

## Lineage

{lineage}
"""  # noqa: E501 - a table has one line per row

_RATES = ("1e-3", "1e-4")
_BARE = re.compile(r"[a-z]+(-[a-z]+)*")
"""Texts that YAML reads as strings without quotes"""
_HUB_LICENCES = {
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nd-4.0", "gpl-3.0", "lgpl-3.0"),
    *("agpl-3.0", "mpl-2.0", "unlicense"),
}
"""Licences known to model hubs; others are "other" in the front matter and named in the text."""


def model_card(
    name: str, config: BundleConfig, evaluation: dict[str, Any], spec: str | None = None
) -> str:
    """The text of ``README.md``; names and texts from the spec are escaped.

    ``evaluation`` is the result of ``distill.evaluation.evaluate``, ``spec`` the text of the job
    spec.
    """
    preprocessing = config.face.preprocessing
    origin = config.origin or Origin()
    points = config.face.alignment.points
    return _CARD.format(
        front_matter=_front_matter(name, config, origin),
        name=plain(name),
        architecture=plain(config.architecture),
        width=config.width,
        dimensions=config.num_features,
        sizes=_sizes(config.sizes),
        colour=preprocessing.colour,
        framing=framing_words(config.face),
        points=", ".join(f"({x:g}, {y:g})" for x, y in points),
        mean=preprocessing.mean,
        std=preprocessing.std,
        height=preprocessing.size[0],
        input_width=preprocessing.size[1],
        mirror=MIRROR[config.face.mirror],
        formats=_formats(config, evaluation.get("formats", {})),
        evaluation=_evaluation(evaluation["sets"], origin) + _format_scores(evaluation),
        warnings=_warnings(evaluation.get("warnings", [])),
        thresholds=_thresholds(evaluation["thresholds"]),
        note=plain(evaluation["thresholds"]["note"]),
        data=_data(origin),
        licences=_licences(origin.licences),
        lineage=_lineage(origin, spec),
    )


def _formats(config: BundleConfig, scores: dict[str, Any]) -> str:
    known = exporters()
    cards = [known[name].card for name in config.formats if name in known]
    lacking = [
        f"Not in this bundle: {plain(name)}. Reason: {plain(reason)}."
        for name, reason in left_out(scores, config.formats).items()
    ]
    return "\n".join(filter(None, [*cards, *lacking]))


def _front_matter(name: str, config: BundleConfig, origin: Origin) -> str:
    """YAML front matter; values are JSON, a subset of YAML, so no text can be misinterpreted."""
    weights = licence_of_weights(origin.licences)
    results = [
        {
            "task": {"type": "image-feature-extraction", "name": "face verification"},
            "dataset": {"type": each, "name": each},
            "metrics": [
                {
                    "type": "accuracy",
                    "name": "ten-fold accuracy",
                    "value": found.student.accuracy.value,
                }
            ],
        }
        for each, found in origin.scores.items()
        if found.student.accuracy is not None
    ]
    known = weights is not None and weights.lower() in _HUB_LICENCES
    front: dict[str, Any] = {
        "license": weights.lower() if weights and known else "other",
        **({} if known else {"license_name": "training-data-terms"}),
        "library_name": "face-distill",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["face-recognition", "knowledge-distillation", config.architecture],
        "metrics": ["accuracy"],
        **({"model-index": [{"name": name, "results": results}]} if results else {}),
    }
    return "\n".join(f"{key}: {_yaml(value)}" for key, value in front.items())


def _yaml(value: Any) -> str:
    bare = isinstance(value, str) and _BARE.fullmatch(value)
    return str(value) if bare else json.dumps(value, ensure_ascii=False)


def _sizes(sizes: Sizes | None) -> str:
    if sizes is None:
        return ""
    return f"""\
| | |
|---|---|
| parameters | {sizes.parameters:,} ({sizes.mebibytes:.2f} MiB as float32) |
| multiply-additions (MAdds: convolutions and fully connected layers) | {sizes.multiply_adds:,} |
| FLOPs as the LFR 2019 challenge counts them | {sizes.lfr_flops:,} |

"""


def _data(origin: Origin) -> str:
    if not origin.data:
        return "The training data is not recorded."
    rows = [
        [plain(each.name), f"{each.images:,}", f"{each.identities:,}", f"`{each.digest[:16]}`"]
        for each in origin.data
    ]
    return table(["trained on", "images", "identities", "SHA-256"], rows)


def _licences(licences: tuple[Terms, ...]) -> str:
    if not licences:
        return "The licences of the data, of the teacher and of these weights are unknown."
    rows = [
        [_subject(each), "unknown" if each.licence is None else plain(each.licence)]
        for each in licences
    ]
    return table(["of", "licence"], rows)


def _subject(terms: Terms) -> str:
    if terms.of == "weights":
        return "these weights"
    through = "".join(f", of {plain(each)}" for each in terms.through)
    kind = {"data": "data", "teacher": "teacher", "beginning": "the initial network"}
    return f"{kind[terms.of]} {plain(terms.name)}{through}"


def _lineage(origin: Origin, spec: str | None) -> str:
    parts = []
    if origin.generations:
        rows = [
            [
                plain(each.name),
                "<br>".join(map(plain, each.steps)),
                ", ".join(f"{plain(name)} {value:.4f}" for name, value in each.accuracy.items()),
            ]
            for each in origin.generations
        ]
        parts.append(table(["generation", "steps", "ten-fold accuracy"], rows))
    if origin.teachers:
        names = ", ".join(f"{plain(name)} `{hash[:16]}`" for name, hash in origin.teachers.items())
        parts.append(f"Taught by {names} (SHA-256).")
    if spec is not None:
        parts.append(f"The job:\n\n{fenced(spec, 'toml')}")
    return "\n\n".join(parts) or "`lineage.json` holds the full record."


def _warnings(warnings: list[dict[str, str]]) -> str:
    """The section of warnings; empty without warnings."""
    if not warnings:
        return ""
    lines = [": ".join(filter(None, [each["step"], each["text"]])) for each in warnings]
    listed = "\n".join(f"- {plain(line)}" for line in lines)
    return f"## Warnings\n\nFrom the training and the scores above:\n\n{listed}\n\n"


def _evaluation(sets: dict[str, Any], origin: Origin) -> str:
    if not sets:
        return "Not evaluated."
    header = ["set", "pairs (genuine / impostor)", "ten-fold accuracy"]
    header += [f"TAR at FAR {rate}" for rate in _RATES] + ["SHA-256 of the set"]
    rows = [_evaluation_row(name, report) for name, report in sets.items()]
    reasons = [
        f"{plain(name)} has no accuracy: {plain(report['reason'])}."
        for name, report in sets.items()
        if "reason" in report
    ]
    parts = [table(header, rows), *reasons, _searches(sets), _beside_teacher(origin)]
    return "\n\n".join(filter(None, parts))


def _searches(sets: dict[str, Any]) -> str:
    """The ranks of the sets in which faces are searched; empty without such."""
    rows = [
        [plain(f"{name} {gallery}".rstrip()), plain(rank), f"{found['rate']:.4f}"]
        for name, report in sets.items()
        for gallery, each in {"": report, **report.get("galleries", {})}.items()
        for rank, found in each.get("closed_set", {}).get("ranks", {}).items()
    ]
    return table(["set", "rank", "probes found (1:N)"], rows) if rows else ""


def _evaluation_row(name: str, report: dict[str, Any]) -> list[str]:
    accuracy = report.get("accuracy")
    shown = "-" if accuracy is None else f"{accuracy:.4f} ± {report['std']:.4f}"
    rates = report.get("tar_at_far", {})
    tars = [_tar(rates[rate]) if rate in rates else "-" for rate in _RATES]
    pairs = f"{report['genuine']:,} / {report['impostors']:,}" if "genuine" in report else "-"
    return [plain(name), pairs, shown, *tars, f"`{plain(report['digest'])[:16]}`"]


def _beside_teacher(origin: Origin) -> str:
    """The figures of student and teacher on the same sets; empty without a teacher."""
    rows = []
    for name, scores in origin.scores.items():
        if scores.teacher is None:
            continue
        rows.append(
            [plain(name), "accuracy", _measured(scores.student.accuracy),
             _measured(scores.teacher.accuracy)]
        )  # fmt: skip
        for rate in scores.student.tar_at_far.keys() & scores.teacher.tar_at_far.keys():
            pair = (each.tar_at_far[rate] for each in (scores.student, scores.teacher))
            rows.append([plain(name), f"TAR at FAR {rate}", *map(_measured, pair)])
    return table(["set", "measure", "this network", "its teacher"], sorted(rows)) if rows else ""


def _format_scores(evaluation: dict[str, Any]) -> str:
    """The scores of each format, if measured, after those of the network on the same sets."""
    formats = evaluation.get("formats", {})
    measured = {
        (name, report.get("digest"))
        for found in formats.values()
        for name, report in found.get("sets", {}).items()
    }
    network = {
        name: report
        for name, report in evaluation["sets"].items()
        if (name, report.get("digest")) in measured
    }
    rows = format_rows({"float32": {"sets": network}, **formats}) if measured else []
    header = ["format", "set", "ten-fold accuracy", f"TAR at FAR {RATE}"]
    searched = {
        f"{each} in {name}": report
        for name, found in formats.items()
        for each, report in found.get("sets", {}).items()
    }
    parts = [table(header, rows) if rows else "", _searches(searched)]
    if not any(parts):
        return ""
    return "\n\n".join(["\n\nThe same network in its formats:", *filter(None, parts)])


def _measured(found: Measured | None) -> str:
    return "-" if found is None else f"{found.value:.4f}{_interval(found.interval)}"


def _interval(interval: Any) -> str:
    return "" if interval is None else f" ({interval[0]:.4f} to {interval[1]:.4f})"


def _tar(rate: dict) -> str:
    if rate["tar"] is not None:
        return f"{rate['tar']:.4f}"
    return "too few pairs" if rate["reason"].startswith("insufficient pairs") else "not measured"


def _thresholds(thresholds: dict[str, Any]) -> str:
    parts = [_threshold_table(thresholds["false_accept_rates"])]
    if best := thresholds["best_accuracy"]:
        parts.append(
            f"At the best ten-fold accuracy, {best['accuracy']:.4f} on {plain(best['set'])}: same "
            f"person where cosine > {best['threshold']:.4f}{_rates_of(best)}."
        )
    return "\n\n".join(parts)


def _rates_of(best: dict[str, Any]) -> str:
    """FAR and TAR at the best accuracy; empty for older evaluations, which lack them."""
    if best.get("far") is None:
        return ""
    return (
        f", with a FAR of {best['far']:.4f} and a TAR of {best['tar']:.4f} there "
        f"({best['genuine']:,} genuine and {best['impostors']:,} impostor pairs)"
    )


def _threshold_table(rates: dict[str, Any]) -> str:
    rows = [
        [
            rate,
            f"{found['threshold']:.4f}{_interval(found.get('threshold_interval'))}",
            f"{found['tar']:.4f}{_interval(found.get('interval'))}",
            plain(found["set"]),
            f"{found['genuine']:,} / {found['impostors']:,}",
        ]
        for rate, found in rates.items()
        if found is not None
    ]
    if not rows:
        return "No set was large enough to measure a false-accept rate."
    header = ["FAR", "same person where cosine >", "TAR", "measured on", "genuine / impostor pairs"]
    return table(header, rows)
