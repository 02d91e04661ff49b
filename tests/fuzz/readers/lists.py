"""Lists of pairs, of images and of identities, and the ledgers of recipes."""

from pathlib import Path

from curation.pair_sets.making import pairs_of_list, write_pair_set
from curation.recipes.ledger import Ledger
from curation.subsets import By, write_drop, write_keep, write_merge_list, write_split_list
from tests.fuzz.harness import Files, reader
from tests.fuzz.small_sets import images, store_beside


def _pairs() -> list[Files]:
    names = [f"{person}/{person}_{number:04d}.jpg" for person in "ab" for number in (1, 2, 3)]
    files = dict(zip(names, images(), strict=False))
    lists = {
        "lfw": b"1\t2\na\t1\t2\nb\t1\t3\na\t1\tb\t2\na\t3\tb\t3\n",
        "paths": b"a/a_0001.jpg,a/a_0002.jpg,1\na/a_0001.jpg,b/b_0001.jpg,0\n",
        "same first": b"1 a/a_0001.jpg a/a_0002.jpg\n0 a/a_0003.jpg b/b_0001.jpg\n",
    }
    return [{**files, "pairs.txt": text} for text in lists.values()]


@reader("pair list", _pairs, share=0.5)
def read_pairs(folder: Path) -> None:
    """Make a verification set from the list."""
    made = pairs_of_list(folder / "pairs.txt", skip_bad=True)
    write_pair_set(folder.with_name("pairs.bin"), made)


def _numbers() -> list[Files]:
    return [
        {
            "keep.txt": b"0\n3, 4 # blurred\n12\n",
            "drop.txt": b"1\n2\n",
            "merge.txt": b"0 2\n1,3\n",
            "split.txt": b"0 1\n7 1\n8 2\n",
        }
    ]


@reader("image lists", _numbers, share=0.5)
def read_numbers(folder: Path) -> None:
    """Make views from the list."""
    store = store_beside(folder)
    write_keep(folder.with_name("keep.view"), store, folder / "keep.txt", By.INDEX)
    write_drop(folder.with_name("drop.view"), store, folder / "drop.txt", By.KEY)
    write_merge_list(folder.with_name("merge.view"), store, folder / "merge.txt", By.IDENTITY)
    write_split_list(folder.with_name("split.view"), store, folder / "split.txt", By.INDEX)


def _ledgers() -> list[Files]:
    return [{"recipe.json": b'{"made": {"clean.view": "1234", "lfw.bin": "5678"}}'}]


@reader("recipe.json", _ledgers, share=0.2)
def read_ledger(folder: Path) -> None:
    """Query and update the ledger as a recipe does."""
    ledger = Ledger(folder)
    ledger.set_aside_if_damaged()
    ledger.is_ours(folder / "clean.view")
    ledger.enter(folder / "clean.view", "9abc")
    assert ledger.set_aside_if_damaged() is None
