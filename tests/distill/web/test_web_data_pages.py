"""Stores and views in a browser."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_store import drawn_store
from playwright.sync_api import Browser, Page, expect

from curation.conversion.convert import convert
from curation.images import decode, encode_jpeg
from curation.view_writing import write_subset
from curation.workspace import Workspace
from distill.web import data
from teachers.embeddings import cache_embeddings
from teachers.preprocessing import Preprocessing
from tests.distill.web.pages_harness import Pages, axe_faults

HTML = {"Accept": "text/html"}
ODD = "<img src=x>?\u202e\n#%.view"
"""A possible name of a view"""
LONG = f"{'n' * 200}.view"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Pages of a store with 12 identities, 8 images each, and of a view with every second image."""
    made = Pages(tmp_path_factory.mktemp("data") / "workspace")
    folder = made.workspace.datasets / "drawn"
    folder.mkdir(parents=True)
    store = drawn_store(folder, 96)
    write_subset(folder / "half.view", store, np.arange(96) % 2 == 0, "half", {"every": 2})
    write_subset(folder / LONG, store, np.arange(96) < 4, "first", {"below": 4})
    write_subset(folder / ODD, store, np.arange(96) < 8, "first", {"below": 8})
    (folder / "broken.view").mkdir()
    (folder / "broken.view" / "view.json").write_text("{}")
    made.start()
    yield made
    made.stop()


def test_sets_are_a_tree_with_their_sizes(pages: Pages, browser_page: Page) -> None:
    page = browser_page
    page.get_by_role("link", name="Data", exact=True).click()
    row = page.get_by_role("row", name="half every 2")
    expect(row).to_contain_text("50.0 %")
    expect(page.get_by_text("view.json")).to_be_visible()  # why the broken one cannot be opened
    row.get_by_role("link", name="half.view").click()
    expect(page.get_by_role("heading", name="drawn/half")).to_be_visible()
    expect(page.locator(".people .card")).to_have_count(12)
    for image in page.locator(".people img").all()[:6]:
        expect(image).to_have_js_property("naturalWidth", 112)
    page.get_by_role("heading", name="Quality").scroll_into_view_if_needed()
    expect(page.get_by_role("img", name="sharpness of 48 images")).to_be_visible()
    page.get_by_role("searchbox").fill("3")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="identity 3", exact=True).click()
    expect(page.locator(".face")).to_have_count(4)
    page.locator(".face a").first.click()
    expect(page.get_by_text("No teacher's embeddings of this image are cached")).to_be_visible()


def test_unknown_addresses_are_reported(pages: Pages) -> None:
    with pages.program() as http:
        for path, status in (
            ("drawn/none", 422), ("drawn/drawn/identity/12", 404), ("drawn/drawn/face/96", 404),
            ("drawn/drawn/picture/96", 404), ("drawn/drawn/picture/-1", 422),
            ("drawn/drawn/measure/beauty", 404), ("drawn/broken", 422), ("..%2fdrawn/drawn", 404),
            ("drawn/drawn?page=x", 422), ("drawn/drawn?order=odd", 422),
        ):  # fmt: skip
            assert http.get(f"/data/{path}").status_code == status, path
        beyond = http.get("/data/drawn/drawn?page=1000", headers=HTML)
        assert (beyond.status_code, "page 1,000 of 1" in beyond.text) == (200, True)
        kept = http.get("/data/drawn/drawn/picture/0")
        assert "immutable" in kept.headers["cache-control"]
        assert decode(kept.content).shape == (112, 112, 3)


def test_a_set_of_any_name_has_its_page(pages: Pages, browser_page: Page) -> None:
    browser_page.goto(f"{pages.url}/data")
    browser_page.get_by_role("link", name="<img src=x>").click()
    expect(
        browser_page.get_by_role("heading", name="drawn/<img src=x>?\\u202e\\n#%")
    ).to_be_visible()
    image = browser_page.locator(".people img").first
    expect(image).to_have_js_property("naturalWidth", 112)
    assert "\u202e" not in browser_page.content()


@pytest.mark.parametrize("path", ["data", "data/drawn/drawn", "data/drawn/drawn/face/3"])
def test_data_pages_are_accessible(pages: Pages, chromium: Browser, path: str) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.goto(pages.link(f"/{path}"))
    expect(page.get_by_role("heading").first).to_be_visible()
    assert axe_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_nearest_identities_are_found(tmp_path: Path) -> None:
    store = drawn_store(tmp_path, 32)
    assert data.nearest(tmp_path / "cache", store, 3) == ("", [])
    cache_embeddings(GridEmbedder(), store, tmp_path / "cache")
    teacher, near = data.nearest(tmp_path / "cache", store, 3, count=3)
    assert teacher == "grid"
    vectors = GridEmbedder().embed(np.stack([decode(store.read(i)) for i in range(32)]))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = vectors @ vectors[3]
    similar[3] = -1
    best = similar.reshape(4, 8).max(axis=1)
    assert [each.identity for each in near] == np.argsort(-best)[:3].tolist()
    assert near[0].similarity == pytest.approx(best.max(), abs=0.01)
    assert near[0].image != 3


class GridEmbedder:
    """The mean colours of a 4 x 4 grid, centred."""

    digest, embedding, preprocessing = "grid", 48, Preprocessing.ours((112, 112))

    def embed(self, images: np.ndarray) -> np.ndarray:
        cells = images.reshape(len(images), 4, 28, 4, 28, 3).mean(axis=(2, 4))
        flat = cells.reshape(len(images), 48).astype(np.float32)
        return flat - flat.mean(axis=1, keepdims=True)


def test_a_search_finds_labels_keys_and_identities(tmp_path: Path) -> None:
    store = drawn_store(tmp_path, 32)
    key = int(store.source_keys[9])
    assert data.search(store, str(key)).images == [9]
    assert data.search(store, "2").identities == [2]
    assert data.search(store, "99999") == data.Found([], [])
    assert data.search(store, "  name  ") == data.Found([], [])
    assert data.search(store, "9" * 30) == data.Found([], [])


def test_a_search_finds_names_in_a_view_and_stops_at_the_most(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "ann").mkdir()
    for number in range(6):
        pixels = np.full((32, 32, 3), 40 * number, np.uint8)
        (tmp_path / "ann" / f"{number}.JPG").write_bytes(encode_jpeg(pixels))
    store = convert(tmp_path, tmp_path / "named.lmdb")
    view = write_subset(tmp_path / "last.view", store, np.arange(6) > 1, "chosen", {})
    assert data.search(view, "ANN/5.jpg") == data.Found([], [3])
    assert data.search(view, "ann/1") == data.Found([], [])
    monkeypatch.setattr(data, "MOST_FOUND", 3)
    assert data.search(view, "jpg") == data.Found([], [0, 1, 2])


def test_people_are_listed_in_the_requested_order(tmp_path: Path) -> None:
    store = drawn_store(tmp_path, 28)  # four identities, the last with four images
    assert data.by_size(store, "own", 1, 2) == [1, 2]
    assert data.by_size(store, "fewest", 0, 2) == [3, 0]
    assert data.by_size(store, "most", 3, 9) == [3]
    assert data.by_size(store, "own", 9, 9) == []


def test_a_measure_uses_a_sample_and_shows_both_ends(tmp_path: Path, monkeypatch) -> None:
    store = drawn_store(tmp_path, 40)
    monkeypatch.setattr(data, "SAMPLED", 20)
    found = data.measured(store, "brightness")
    assert (found.sampled, sum(found.counts), len(found.edges)) == (20, 20, 25)
    assert found.quantiles["1 %"] <= found.quantiles["median"] <= found.quantiles["99 %"]
    assert len(set(found.lowest) & set(found.highest)) == 0


def test_a_changed_set_is_reopened(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    folder = place.datasets / "drawn"
    folder.mkdir(parents=True)
    store = drawn_store(folder, 16)
    write_subset(folder / "some.view", store, np.arange(16) < 8, "some", {})
    sets = data.DataSets(place)
    first = sets.open("drawn/some")
    assert sets.open("drawn/some") is first
    (folder / "some.view").rename(tmp_path / "old")
    write_subset(folder / "some.view", store, np.ones(16, bool), "some", {})
    assert len(sets.open("drawn/some")) == 16
