"""The contact sheet of a job's augmented views: created on request, and kept."""

import threading
from pathlib import Path

import cv2
import pytest
from playwright.sync_api import Page, expect
from small_job import ARCFACE, job_text, make_workspace, network_text, stage_text

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import client
from distill.web.routes.job_views import stamp_of
from distill.web.view_sheets import ViewSheets, has_views
from tests.distill.web.pages_harness import Pages

SPEC = job_text("job", stage_text(ARCFACE), "[augment]\nviews = 3\n", student=network_text())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, drawn_store, drawn_folder) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("workspace"), drawn_store, drawn_folder)


def test_a_sheet_is_created_once_and_found_again(workspace: Workspace) -> None:
    sheets = ViewSheets(workspace, threading.Event())
    assert sheets.find(SPEC) is None
    made = sheets.make(SPEC)
    assert cv2.imread(str(made)).shape[2] == 3
    assert ViewSheets(workspace, threading.Event()).find(SPEC) == made
    assert sheets.find(SPEC + "# another\n") is None


def test_an_error_in_a_spec_is_reported_in_one_line(workspace: Workspace) -> None:
    sheets = ViewSheets(workspace, threading.Event())
    with pytest.raises(UserError, match=r"views: .*-1") as told:
        sheets.make(SPEC.replace("views = 3", "views = -1"))
    assert str(workspace.root) not in str(told.value)


def test_a_stopping_server_waits_for_no_sheet(workspace: Workspace) -> None:
    ending = threading.Event()
    ending.set()
    with pytest.raises(UserError, match="the server stops"):
        ViewSheets(workspace, ending).make(SPEC)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("[augment]\nviews = 3", True),
        ("[augment]", False),
        ("name = 'x'", False),
        ("[augment", False),
    ],
    ids=["views", "empty", "none", "no TOML"],
)
def test_only_jobs_that_augment_have_a_sheet(spec: str, expected: bool) -> None:
    assert has_views(spec) is expected


def test_a_page_shows_the_sheet_or_the_obstacle(pages: Pages, browser_page: Page) -> None:
    page = browser_page
    pages.submit("plain")
    page.goto(f"{pages.url}/jobs/plain")
    expect(page.get_by_role("heading", name="Augmented views")).to_have_count(0)
    code = "pass\n'''\n[augment]\nviews = 3\n#'''"
    pages.submit("viewed", code.replace("#'''", "more = '''"))
    page.goto(f"{pages.url}/jobs/viewed")
    page.get_by_role("button", name="Make a contact sheet").click()
    expect(page.locator("#sheet .problem")).to_contain_text("code", timeout=90_000)
    with pages.program() as http:
        assert http.get("/jobs/viewed/views.png").status_code == 404
    kept = sheet_of(pages.workspace, client.spec_of(pages.workspace, "viewed"))
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(Path("docs/sample-faces.png").read_bytes())
    page.reload()
    expect(page.locator("#sheet img")).not_to_have_js_property("naturalWidth", 0)


def test_a_removed_sheet_is_not_an_error(tmp_path: Path) -> None:
    assert stamp_of(tmp_path / "removed meanwhile.png") is None


def sheet_of(workspace: Workspace, spec: str) -> Path:
    return ViewSheets(workspace, threading.Event())._path(spec)
