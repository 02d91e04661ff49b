"""The docs are correct: links have targets, commands exist and have help."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from distill.cli.curate import app as curate
from distill.cli.main import app as distill

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDS = {
    f"{name} {command.name}": command
    for name, app in (("curate", curate), ("distill", distill))
    for command in get_command(app).commands.values()
    if not command.hidden
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def anchors(page: Path) -> set[str]:
    """The link targets of a page, by GitHub's rules for headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page):
    targets = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text())
    missing = [
        f"{name}#{anchor}"
        for name, anchor in targets
        if anchor not in anchors(page.parent / name if name else page)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_in_lists_have_four_spaces(page):
    """With fewer, the site ends the list and restarts its numbering."""
    assert re.findall(r"^ {1,3}```", page.read_text(), re.MULTILINE) == []


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / name).resolve()
        for name in re.findall(r"\]\(([^)#]+)[^)]*\)", index.read_text())
    }
    pages = {page for page in ROOT.glob("docs/**/*.md") if page != index}
    assert [str(page.relative_to(ROOT)) for page in sorted(pages - linked)] == []


def test_the_site_has_every_page():
    named = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text())
    docs = ROOT / "docs"
    assert sorted(named) == sorted(str(page.relative_to(docs)) for page in docs.glob("**/*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_a_page_names_exist(page):
    blocks = "\n".join(re.findall(r"```\n(.*?)```", page.read_text(), re.DOTALL))
    named = re.findall(r"^(curate|distill) ([a-z][a-z-]*)", blocks, re.MULTILINE)
    assert [f"{name} {verb}" for name, verb in named if f"{name} {verb}" not in COMMANDS] == []


def test_every_command_is_in_a_page():
    text = "\n".join(page.read_text() for page in PAGES)
    missing = [
        command for command in COMMANDS
        if not re.search(rf"{command}|\| {command.split()[1]}\b", text)
    ]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(command):
    help_text = COMMANDS[command].help
    assert "Example" in help_text
    assert command in help_text


@pytest.mark.parametrize("app", ["curate", "distill"])
def test_help_comes_without_the_heavy_libraries(app):
    code = (
        f"import sys; from distill.cli.{'curate' if app == 'curate' else 'main'} import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'onnxruntime', 'fastapi', 'httpx', 'timm'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr


def test_the_two_commands_of_the_readme_are_recipes():
    readme = (ROOT / "README.md").read_text()
    justfile = (ROOT / "Justfile").read_text()
    recipes = set(re.findall(r"^([a-z-]+)(?: [^:\n]*)?:", justfile, re.MULTILINE))
    assert {"demo", "test"} <= recipes
    assert set(re.findall(r"(?<!-)\bjust ([a-z-]+)(?![a-z_=])", readme)) <= recipes


@pytest.mark.skipif(shutil.which("just") is None, reason="needs just")
def test_options_of_recipes_keep_their_spaces(tmp_path):
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\nprintf '[%s]' \"$@\"\n")
    stub.chmod(0o755)
    command = ["just", "--no-deps", f"bin={tmp_path}", "bench-cache", "--data", "/my data"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.endswith("[--data][/my data]")


def test_the_page_of_backbones_has_the_counts_of_every_network():
    from distill.backbones import NETWORKS
    from distill.counting import count_network

    page = (ROOT / "docs" / "backbones.md").read_text()
    for name in NETWORKS:
        counts = count_network(name)
        row = f"| `{name}` | {counts.params / 1e6:,.3f}"
        assert row in page, f"{name}: run `just backbones-page`"
        assert f"{counts.madds / 1e6:,.1f}" in page[page.index(row) :].split("\n")[0]


def test_prose_is_checked_outside_of_code(tmp_path, monkeypatch):
    from tests import prose

    page = tmp_path / "page.md"
    text = "Well.\n\n```\nnothing of it\n```\n\nNothing\nof it stays; `goes on where it`.\n"
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    found = list(prose.faults(page, prose.prose(text)))
    assert found == ['page.md:7: "Nothing of it": write: none of it']


def test_long_lines_of_pages_are_found_outside_of_tables(tmp_path, monkeypatch):
    from tests import prose

    long = "word " * 25
    page = tmp_path / "page.md"
    page.write_text(
        f"{long}\n  | {long} |\n```\n{long}\n```\n  [w](https://example.org/{'w' * 120})\n"
        f"<!-- x: generated by just docs-reference -->\n{long}\n<!-- end of x -->\n  {long}\n"
    )
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    assert [each.split(": ")[0] for each in prose.long_lines(page)] == ["page.md:1", "page.md:10"]


def test_prose_of_modules_is_docstrings_and_comments(tmp_path, monkeypatch):
    from tests import prose

    module = tmp_path / "module.py"
    text = '"""Whoever\nasks for ``it``."""\nwords = "whoever asks"  # made anew\n'
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    found = list(prose.faults(module, prose.prose(prose.comments(text))))
    assert [line.rpartition(": write")[0] for line in found] == [
        'module.py:3: "made anew"',
        'module.py:3: "anew"',
        'module.py:1: "Whoever asks"',
    ]


def test_prose_is_checked_in_messages(tmp_path, monkeypatch):
    from tests import prose

    module = tmp_path / "module.py"
    module.write_text(
        '"""The head is to be whole."""\n'
        'short = "is to be"\n'
        'said = f"{short}: the head "\\\n'
        '    f"is to be whole"\n'
    )
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    assert list(prose.message_faults(module)) == ['module.py:3: "is to be": write: must']


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("HASH_COMMENTS", "cp anew a\n# drawn anew\n"),
        ("SLASH_COMMENTS", "int anew;\n/* made\n anew */\n"),
        ("PAGE_TEXT", '<p class="anew">drawn\nanew {{ anew }}</p>\n'),
    ],
    ids=["shell", "C++", "page"],
)
def test_prose_of_other_files_is_comments_and_text(kind: str, text: str) -> None:
    from tests import prose

    found = prose.found_by(getattr(prose, kind), text)
    assert found.count("anew") == 1
    assert found.count("\n") == text.count("\n")
