"""``just prose``: the habits of translated text that the docs had, found by rules of their own.

A rule is a pattern and what to write instead. Code and generated pages are left out.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"^```.*?^```|`[^`\n]*`|\]\([^)\s]*\)", re.MULTILINE | re.DOTALL)

RULES = {
    r"\bnothing of (?:that|it|them)\b": "none of it",
    r"\bunsaid\b": "not stated",
    r"\bis content\b": "succeeds",
    r"\bthe same command goes on\b": "run the same command again to continue",
    r"\bgoes on (?:where|from) (?:it|where)\b": "continues",
    r"\b(?:drawn|made|written|computed|begun) anew\b": "again",
    r"\bsuch as are\b": "that are",
    r"\bhas by chance\b": "has at random",
    r"\bchosen by chance\b": "chosen at random",
    r"\b(?:teacher's|network's) eyes\b": "embeddings",
    r"\bwhat is (?:no|not) \w+ is\b": "name the thing that is not",
    r"\bthe data tell\b": "is estimated from the data",
    r"\bfor an absent one\b": "as absent",
    r"\bwho is like nobody\b": "an image that resembles no other",
    r"\bis of the\b(?! (?:form|kind|same|size|order|type))": "belongs to the",
    r"\bcomes along\b": "is included",
    r"\bevery single one of\b": "each of",
    r"\bdoes likewise\b": "does the same",
    r"\bin small[,:;]": "a small version",
    r"\bsay(?:s)? of (?:itself|themselves)\b": "states",
    r"\bit is this .{1,40} that\b": "put the subject first",
    r"\bwhatever it is,": "in every case",
    r"\b(?:is|are) told (?:apart )?by (?:whom|which)\b": "distinguish",
    r"\bfrom the beginning on\b": "from the start",
    r"\bgo(?:es)? on (?:from|with|where|inside|without)\b": "continue",
    r"\b(?:begins?|begun|starts?|started) (?:anew|afresh)\b": "start again",
    r"\bby chance\b": "at random",
    r"(?<!there\s)\bis no (?:failure|error|store|text|number|interruption|part)\b": "is not a",
    r"\b(?:teacher|network) is asked\b|\basked about\b": "the teacher embeds",
    r"\bto the bit\b": "bit-identical",
    r"\bthe door (?:to|of)\b|\bis the door\b": "entry point",
    r"\blies? (?:beside|here|there)\b": "is",
    r"\bstands? (?:there|twice|beside)\b": "is",
    r"\b(?:ms|seconds|bytes|line|row|record|rows|figure) an image\b": "per image",
    r"\ball else\b": "everything else",
    r"\bof before\b": "earlier",
    r"\b(?:is|are) looked (?:into|whether)\b|\bit is looked\b": "is checked, is searched",
    r"\bwhat (?:cannot|can) be is\b": "put the subject first",
    r"\blikewise\b": "also",
    r"\bso many (?:degrees|pixels|identities)\b": "that many, a number of",
    r"\b(?:generation|stage|checkpoint|step|run) before(?=[,.;:)]| is\b| was\b)": "previous",
    r"\b(?:is|are) said once\b|\bis not said\b": "is stated, is reported",
    r"\bof nobody in particular\b|\bnobody's\b": "unlabelled",
    r"\bhow it came\b|\bas (?:they|it) came\b": "unchanged, original",
}


def prose(page: Path) -> str:
    """The text without code and addresses; lines stay where they are."""
    return CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), page.read_text("utf-8"))


def pages() -> list[Path]:
    found = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    return [page for page in found if "lab-notes" not in page.parts]


def faults(page: Path) -> Iterator[str]:
    text = prose(page)
    for pattern, instead in RULES.items():
        for found in re.finditer(pattern.replace(" ", r"\s+"), text, re.IGNORECASE):
            line = text.count("\n", 0, found.start()) + 1
            said = " ".join(found[0].split())
            yield f'{page.relative_to(ROOT)}:{line}: "{said}": write: {instead}'


def main() -> int:
    found = [fault for page in pages() for fault in faults(page)]
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
