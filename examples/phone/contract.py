"""Print what an app must do with a face, as constants, from a bundle's config.json.

python examples/phone/contract.py workspace/bundles/sample/config.json cpp > contract.hpp
python examples/phone/contract.py workspace/bundles/sample/config.json kotlin > Contract.kt
python examples/phone/contract.py workspace/bundles/sample/config.json swift > Contract.swift
"""

import argparse
import json
import sys
from pathlib import Path

FORMS = {
    "cpp": (
        "#pragma once\nnamespace contract {{\n{}\n}}  // namespace contract",
        "constexpr int {} = {};",
        "constexpr bool {} = {};",
        "constexpr float {}[] = {{{}}};",
        "f",
    ),
    "kotlin": (
        "object Contract {{\n{}\n}}",
        "    const val {} = {}",
        "    const val {} = {}",
        "    val {} = floatArrayOf({})",
        "f",
    ),
    "swift": (
        "enum Contract {{\n{}\n}}",
        "    static let {} = {}",
        "    static let {} = {}",
        "    static let {}: [Float] = [{}]",
        "",
    ),
}


def constants(config: dict) -> dict[str, int | bool | list[float]]:
    """By name; points are x, y, of left eye, right eye, nose, left and right mouth corner."""
    face = config["face"]
    pixels = face["preprocessing"]
    height, width = pixels["size"]
    framing = face.get("framing") or {
        "crop": {"top": 0, "left": 0, "height": 112, "width": 112},
        "scaling": "none" if (height, width) == (112, 112) else "area",
    }
    mean, std = (
        value if isinstance(value, list) else [value] * 3
        for value in (pixels["mean"], pixels["std"])
    )
    return {
        "inputHeight": height,
        "inputWidth": width,
        "cropTop": framing["crop"]["top"],
        "cropLeft": framing["crop"]["left"],
        "cropHeight": framing["crop"]["height"],
        "cropWidth": framing["crop"]["width"],
        "embeddingLength": config["num_features"],
        "blueFirst": pixels["colour"] == "BGR",
        "addMirrored": face["mirror"] == "sum",
        "mean": mean,
        "std": std,
        "points": [number for point in face["alignment"]["points"] for number in point],
    }


def written(config: dict, language: str) -> str:
    """The source of the constants."""
    frame, whole, flag, list_, suffix = FORMS[language]
    lines = []
    for name, value in constants(config).items():
        if isinstance(value, list):
            lines.append(list_.format(name, ", ".join(f"{float(v)!r}{suffix}" for v in value)))
        elif isinstance(value, bool):
            lines.append(flag.format(name, str(value).lower()))
        else:
            lines.append(whole.format(name, value))
    return "// by contract.py, from config.json\n" + frame.format("\n".join(lines)) + "\n"


def main() -> None:
    """Print the constants, or one line on what is wrong with the arguments."""
    parser = argparse.ArgumentParser(description="Print the constants of a bundle for an app.")
    parser.add_argument("config", type=Path, help="config.json of a bundle")
    parser.add_argument("language", choices=sorted(FORMS))
    given = parser.parse_args()
    try:
        source = written(json.loads(given.config.read_text("utf-8")), given.language)
    except OSError as error:
        parser.error(f"{given.config}: {error.strerror}")
    except (ValueError, LookupError, TypeError, AttributeError):
        parser.error(f"{given.config} is not the config.json of a bundle")
    sys.stdout.write(source)


if __name__ == "__main__":
    main()
