"""The model card of a bundle: Markdown with the front matter that model hubs read."""

from distill.counting import Counts
from distill.export.config import BundleConfig, FaceConfig, Framing
from distill.export.exporter import exporters

_CARD = """\
---
license: other
license_name: training-data-terms
library_name: face-distill
pipeline_tag: image-feature-extraction
tags:
- face-recognition
- knowledge-distillation
- {architecture}
metrics:
- accuracy
---

# {name}

A face embedding network: {architecture}, channel width {width:g}, {dimensions} dimensions.

| | |
|---|---|
| parameters | {params:,} ({size_mib:.2f} MiB as float32) |
| multiply-additions (MAdds: convolutions and fully connected layers) | {madds:,} |
| FLOPs as the LFR 2019 challenge counts them | {lfr_flops:,} |

## Use

```python
import distill

embedder = distill.load("path/to/this/folder")
left, right = embedder.embed(["one.jpg", "other.jpg"])
```

Input: a face aligned to the ArcFace template of 112x112 pixels (five points in `config.json`),
{framing}.
Then {colour}, `(pixel - {mean}) / {std}`, NCHW float32.
Feature: {mirror}. Compare by cosine; thresholds are in `thresholds.json`.
{formats}

## Evaluation

Scores are comparable only where the digest of the set is the same.

{evaluation}

{warnings}## Thresholds

{thresholds}

{note}

## Licence and limits

The network was learned from face images. Sets such as MS1M were gathered without the consent of
the people in them, were withdrawn by their makers, and are for research only; what was learned from
them may be bound by the same terms. Check the terms of the data in `lineage.json` before any use
beyond research. Error rates differ between groups of people: measure them on those it will meet.
"""

_MIRROR_RULES = {
    "sum": "`normalise(f(image) + f(mirrored image))`",
    "none": "`normalise(f(image))`",
}
_SCALING = {"area": "area averaging", "bilinear": "bilinear"}
_RATES = ("1e-3", "1e-4")


def model_card(name: str, config: BundleConfig, counts: Counts, evaluation: dict) -> str:
    """The text of ``README.md``; ``evaluation`` is what ``distill.evaluation.evaluate`` gave."""
    preprocessing = config.face.preprocessing
    return _CARD.format(
        name=name,
        architecture=config.architecture,
        width=config.width,
        dimensions=config.num_features,
        params=counts.params,
        size_mib=counts.size_mib,
        madds=counts.madds,
        lfr_flops=counts.lfr_flops,
        colour=preprocessing.colour,
        framing=_framing(config.face),
        mean=preprocessing.mean,
        std=preprocessing.std,
        mirror=_MIRROR_RULES[config.face.mirror],
        formats="\n".join(filter(None, (exporters()[name].card for name in config.formats))),
        evaluation=_evaluation_table(evaluation["sets"]),
        warnings=_warnings(evaluation.get("warnings", [])),
        thresholds=_thresholds(evaluation["thresholds"]),
        note=evaluation["thresholds"]["note"],
    )


def _framing(face: FaceConfig) -> str:
    """How an image of the size that was trained on becomes the input."""
    height, width = face.preprocessing.size
    framing = face.framing or Framing.of(face.image_size, face.preprocessing.size)
    crop, (image_height, image_width) = framing.crop, framing.image_size
    said = f"as an image of {image_height}x{image_width} pixels"
    if (crop.height, crop.width) != framing.image_size:
        said += (
            f", of which the middle {crop.height}x{crop.width} is\ntaken, from row {crop.top} and "
            f"column {crop.left} on (cropped, never squeezed)"
        )
    return (
        said
        if framing.scaling == "none"
        else f"{said}, scaled to {height}x{width} ({_SCALING[framing.scaling]})"
    )


def _warnings(warnings: list[dict[str, str]]) -> str:
    """A section of its own, where there are any."""
    if not warnings:
        return ""
    lines = [": ".join(filter(None, [each["step"], each["text"]])) for each in warnings]
    listed = "\n".join(f"- {line.replace('<', '&lt;')}" for line in lines)
    return f"## Warnings\n\nOf the training, and of the scores above:\n\n{listed}\n\n"


def _evaluation_table(sets: dict) -> str:
    if not sets:
        return "Not evaluated."
    header = ["set", "pairs (genuine / impostor)", "ten-fold accuracy"]
    header += [f"TAR at FAR {rate}" for rate in _RATES] + ["SHA-256 of the set"]
    table = _table(header, [_evaluation_row(name, report) for name, report in sets.items()])
    reasons = [
        f"{name} has no accuracy: {report['reason']}."
        for name, report in sets.items()
        if "reason" in report
    ]
    return "\n\n".join([table, *reasons])


def _evaluation_row(name: str, report: dict) -> list[str]:
    accuracy = report.get("accuracy")
    shown = "-" if accuracy is None else f"{accuracy:.4f} ± {report['std']:.4f}"
    tars = [_tar(report["tar_at_far"][rate]) for rate in _RATES]
    pairs = f"{report['genuine']:,} / {report['impostors']:,}"
    return [name, pairs, shown, *tars, f"`{report['digest'][:16]}`"]


def _tar(rate: dict) -> str:
    if rate["tar"] is not None:
        return f"{rate['tar']:.4f}"
    return "too few pairs" if rate["reason"].startswith("insufficient pairs") else "not measured"


def _thresholds(thresholds: dict) -> str:
    parts = [_threshold_table(thresholds["false_accept_rates"])]
    if best := thresholds["best_accuracy"]:
        parts.append(
            f"At the best ten-fold accuracy, {best['accuracy']:.4f} on {best['set']}: same person "
            f"where cosine > {best['threshold']:.4f}{_rates_of(best)}."
        )
    return "\n\n".join(parts)


def _rates_of(best: dict) -> str:
    """Nothing where the evaluation was done before they were measured."""
    if best.get("far") is None:
        return ""
    return f", with a FAR of {best['far']:.4f} and a TAR of {best['tar']:.4f} there"


def _threshold_table(rates: dict) -> str:
    rows = [
        [rate, f"{found['threshold']:.4f}", f"{found['tar']:.4f}", found["set"]]
        for rate, found in rates.items()
        if found is not None
    ]
    if not rows:
        return "No set was large enough to measure a false-accept rate."
    return _table(["FAR", "same person where cosine >", "TAR", "measured on"], rows)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
