"""The board as a browser shows it, on a wide screen and on a phone, light and dark."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from bench.folders import Folders
from bench.report.site import INDEX, write_site
from bench.report.verify_report import published_reports
from tests.bench.report.browser import test_page as of_a_page
from tests.bench.report.browser.pages import REPORTS_DIR, Opened
from tests.helpers import REPOSITORY

PAGES = (INDEX, "add_results.html", "weights/lopt_ortho_valid.html")
CHECKS = (
    of_a_page.test_nothing_goes_wrong_while_the_page_loads,
    of_a_page.test_the_page_works_offline_since_it_asks_for_nothing_but_itself,
    of_a_page.test_nothing_is_wider_than_the_screen,
    of_a_page.test_headings_form_an_outline,
    of_a_page.test_the_page_names_its_language_its_title_and_each_element_once,
    of_a_page.test_no_two_blocks_overlap,
    of_a_page.test_no_text_is_cut_off_or_spills_out_of_its_box,
)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """The board of what is committed: the one in the documentation, where the gate has built that."""
    if "BENCH_DOCS_DIR" in os.environ:
        return Path(os.environ["BENCH_DOCS_DIR"]) / "board"
    folders = Folders(results_dir=REPOSITORY / "results", reports_dir=REPORTS_DIR)
    return write_site(tmp_path_factory.mktemp("board") / "site", folders=folders).parent


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_board_is_legible_and_its_links_lead_somewhere(browser, board, page, width):
    path = board / page
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    sheet = context.new_page()
    problems, requests = [], []
    sheet.on("console", lambda message: problems.append(message.text))
    sheet.on("pageerror", lambda error: problems.append(str(error)))
    sheet.on("request", lambda sent: requests.append(sent.url))
    sheet.goto(path.resolve().as_uri())
    opened = Opened(sheet, path, "wide", problems, requests)
    for check in CHECKS:
        check(opened)
    for scheme in ("light", "dark"):
        of_a_page.test_text_stands_out_from_its_background(opened, scheme)
    sheet.emulate_media(color_scheme="dark")
    assert opened.find("return style(document.body).backgroundColor;") != "rgb(255, 255, 255)"
    for link in opened.find('return all("a[href]").map(e => e.getAttribute("href"));'):
        url = urlsplit(link)
        if url.path and not url.scheme:
            assert (path.parent / unquote(url.path)).is_file(), link
        elif url.scheme:
            assert url.hostname in ("arxiv.org", "doi.org"), link
    if page == INDEX:
        sets = opened.find('return all("#comparisons ~ .board tr[id]").map(e => e.id);')
        assert sorted(sets) == sorted(f"{suite}-{label}" for suite, label in published_reports(REPORTS_DIR))
    context.close()
