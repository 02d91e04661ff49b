"""``just prose``: finds habits of translated text in docs, comments, pages and messages.

A rule is a pattern and what to write instead. Quoted code is not checked. A message is a string of
at least four words in a package.
"""

import ast
import io
import itertools
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"^```.*?^```|<!--.*?-->|`+[^`\n]*`+|\]\([^)\s]*\)", re.MULTILINE | re.DOTALL)
HASH_COMMENTS = re.compile(r"(?<!\S)#[^\n]*|\"[^\"\n]*\"")
SLASH_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
PAGE_TEXT = re.compile(r"(?:^|(?<=[>}]))(?![/?\"])[^<>{}\"]+", re.MULTILINE)
OTHER_FILES = {
    "Justfile .ci/run pyproject.toml zensical.toml .pre-commit-config.yaml": HASH_COMMENTS,
    ".github/workflows/*.yml examples/Dockerfile": HASH_COMMENTS,
    "examples/distill.* examples/*.sbatch": HASH_COMMENTS,
    "examples/phone/*.[!p]* */web/static/**/*.js */web/static/*.css": SLASH_COMMENTS,
    "curation/*/templates/*.js curation/pages/*.css": SLASH_COMMENTS,
    "*/**/templates/*.html": PAGE_TEXT,
}
"""What is prose in files that are neither Markdown nor Python: comments, strings, text of pages."""
PACKAGES = ("curation", "teachers", "distill")
FOLDERS = ("curation", "distill", "teachers", "tests", "examples")

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
    r"\bin small\b": "a small version",
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
    r"\bas of\b(?! (?:version|now|\d))": "like, see",
    r"\banew\b": "again",
    r"\b(?:goes|going) on\b": "continues",
    r"\b(?:files?|bytes|texts?|pickles?|records) of others\b": "untrusted, third-party",
    r"\bbrings? (?:torch|OpenCV|numpy|typer|rich|onnxruntime)\b": "imports",
    r"\bwho(?:ever)? (?:asks|is told|takes)\b": "name the caller, the user, the client",
    r"\bunless (?:said|given)\b": "by default",
    r"\bat the door\b": "on input",
    r"(?<!-)\bpictures?\b": "image, photograph, chart or drawing",
    r"\b(?:sampled|sharded) (?:class )?centres\b": "class weights",
    r"\bset of class centres\b": "class weights",
    r"\b(?:one|a) (?:file|folder|line|process|row|record|result) an? (?!few\b)\w+\b": "per",
    r"(?-i:\b([a-z]{2,})[ \n]{1,9}(?<!\n\n)\1\b(?![/.(-]))": "the word once",
    r"\b(?:all|everything|nothing) (?:else )?but for\b|\bbut the driver\b": "except",
    r"\bdrawn anew\b|\bbeside (?:its|the) bare\b": "again; relative to",
    r"\bhow surely\b|\bthe whole road\b|\bwhere all may\b": "how many, everything, everybody can",
    r"\b(?:stands|stand|lies) (?:its|their|where)\b": "put the subject first",
    r"\bthat are not committed\b|\bsay which to\b": "uncommitted, choose",
    r"\bwhere (?:asked|it is there|it can be had|they can be had)\b": "on request, if installed",
    r"\btakes? (?:it|them) up again\b|\bis held to what\b": "continues, must pass what",
    r"\bcan be (?:pressed|had)\b|\bnobody tells\b": "name the thing; is missed",
}

MESSAGE_RULES = {
    r"\b(?:is|are) to (?:be|have|hold)\b": "must",
    r"\bhas to (?:be|have|hold)\b": "must",
    r"\bwhat (?:it|they) (?:is|was|were|has|have|says?)\b": "name the thing",
    r"\bwhat (?:is|was|were) (?:known|edited|measured|in it)\b": "name the thing",
    r"\bwhere (?:it|they|there) are\b|\bwhere it is an?\b": "if",
    r"\bis there (?:\{|twice)": "occurs",
    r"\bis (?:not )?that of\b": "belongs to",
    r"\bnot one that\b": "was not written by",
    r"\bis none of\b": "is not one of",
    r"\bof the earlier one\b|\bthe stage before\b": "the previous one",
}
"""For messages only: docs may say some of these."""


def prose(text: str) -> str:
    """``text`` without code and addresses; positions and line breaks do not change."""
    return CODE.sub(lambda found: re.sub(r"[^\n]", "·", found[0]), text)


def found_by(pattern: re.Pattern[str], text: str) -> str:
    """What ``pattern`` finds in ``text``, at the same positions; all other characters are dots."""
    kept = list(re.sub(r"[^\n]", "·", text))
    for found in pattern.finditer(text):
        kept[found.start() : found.end()] = found[0]
    return "".join(kept)


def comments(source: str) -> str:
    """The docstrings and comments of a module, each on its own line."""
    lines = source.split("\n")
    kept = [""] * len(lines)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            span = slice(node.lineno - 1, node.end_lineno)
            kept[span] = lines[span]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            kept[token.start[0] - 1] = token.string.lstrip("# ")
    return "\n".join(kept)


def texts() -> Iterator[tuple[Path, str]]:
    """Every page, job spec, recipe, module, template and script with its prose."""
    pages = (ROOT.glob(each) for each in ("*.md", "docs/**/*.md", ".github/**/*.md"))
    for page in sorted(itertools.chain(*pages)):
        if "lab-notes" not in page.parts:
            yield page, prose(page.read_text("utf-8"))
    for spec in sorted([*ROOT.glob("jobs/*.toml"), *ROOT.glob("curation/recipes/*.toml")]):
        yield spec, spec.read_text("utf-8")
    for folder in FOLDERS:
        for module in sorted(ROOT.glob(f"{folder}/**/*.py")):
            if module != Path(__file__):
                yield module, prose(comments(module.read_text("utf-8")))
    for patterns, written in OTHER_FILES.items():
        for file in sorted(itertools.chain(*map(ROOT.glob, patterns.split()))):
            if "vendor" not in file.parts:
                yield file, prose(found_by(written, file.read_text("utf-8")))


def faults(page: Path, text: str) -> Iterator[str]:
    for pattern, instead in RULES.items():
        for found in re.finditer(pattern.replace(" ", r"\s+"), text, re.IGNORECASE):
            line = text.count("\n", 0, found.start()) + 1
            said = " ".join(found[0].split())
            yield f'{page.relative_to(ROOT)}:{line}: "{said}": write: {instead}'


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each message of a module; values in it are ``{}``."""
    tree = ast.parse(source)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a docstring
            left_out.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            left_out.update(map(id, node.values))
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        literal = [each.value if isinstance(each, ast.Constant) else "{}" for each in parts]
        text = "".join(each for each in literal if isinstance(each, str))
        if len(text.split()) >= 4:
            yield node.lineno, text


def message_faults(module: Path) -> Iterator[str]:
    for line, text in messages(module.read_text("utf-8")):
        for pattern, instead in {**RULES, **MESSAGE_RULES}.items():
            if found := re.search(pattern, prose(text), re.IGNORECASE):
                yield f'{module.relative_to(ROOT)}:{line}: "{found[0]}": write: {instead}'


def main() -> int:
    found = [fault for page, text in texts() for fault in faults(page, text)]
    for package in PACKAGES:
        for module in sorted(ROOT.glob(f"{package}/**/*.py")):
            found += message_faults(module)
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
