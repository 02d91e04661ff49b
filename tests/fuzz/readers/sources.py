"""Lists and folders of images with unusual file names."""

import random
from pathlib import Path

from curation.conversion.convert import convert
from curation.inspection import inspect_path
from tests.fuzz.harness import Files, Special, reader
from tests.fuzz.small_sets import images

_ODD = (
    "²x",
    "٣",
    "①",
    "-rf",
    "[red]",
    "\x1b[2J",
    "a\nb",
    "a\tb",
    " ",
    "\udce9",
    ".hidden",
    "n" * 200,
)
_ODD += ("train.rec", "property", "data.mdb", "9" * 200, "x.jpg", "*")


def _lists() -> list[Files]:
    files = {f"{i % 3}/{i}.jpg": image for i, image in enumerate(images()[:9])}
    names = sorted(files)
    forms = {
        "a.lst": [f"{i}\t{name[0]}\t{name}" for i, name in enumerate(names)],
        "b.lst": [f"1\t{name}\t{name[0]}" for name in names],
        "c.txt": [f"{name} {name[0]}" for name in names],
        "d.csv": ["label,path", *(f'{name[0]},"{name}"' for name in names)],
    }
    return [{**files, name: "\n".join(lines).encode()} for name, lines in forms.items()]


@reader("image list", _lists, share=0.7)
def read_list(folder: Path) -> None:
    """Convert the images of a list, skipping bad records."""
    lists = [name for name in ("a.lst", "b.lst", "c.txt", "d.csv") if (folder / name).exists()]
    convert(folder / (lists or ["a.lst"])[0], folder.with_name("a.lmdb"), skip_bad=True)


def _folders() -> list[Files]:
    return [{f"{i % 3}/{i}.jpg": image for i, image in enumerate(images()[:9])}]


def _name(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Rename a file oddly, move it to an oddly named folder, or make it a folder."""
    if not files:
        return
    name, odd = rng.choice(sorted(files)), rng.choice(_ODD)
    content = files.pop(name)
    other = (f"{odd}/{name}", f"{name[0]}/{odd[:250]}.jpg", odd, f"{odd}/{odd}/{odd}.png")
    path = rng.choice(other)
    if not any(path.startswith(f"{each}/") or each.startswith(f"{path}/") for each in files):
        files[path] = content


@reader("folder", _folders, [_name, _name], share=0.7)
def read_folder(folder: Path) -> None:
    """Convert the folder, skipping bad records, and inspect the result."""
    store = convert(folder, folder.with_name("a.lmdb"), skip_bad=True)
    inspect_path(store.path)
