"""What is committed stays light: a checkout is soon made, a page soon open."""

import re
import subprocess

import pytest

from tests.helpers import REPOSITORY

MOST_OF_ALL = 25_000_000  # bytes
MOST_OF_A_PAGE = 1_700_000  # of a page with sixteen rows on ten tasks
COMMITTED_OF_A_REPORT = {".html", ".json", ".csv"}  # and images that a page of the project shows


def git(*args):
    try:
        done = subprocess.run(["git", *args], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no git checkout: {error}")
    return done.stdout


@pytest.fixture(scope="module")
def tracked():
    """Files of the commit and those about to be added, relative to the repository."""
    if git("rev-parse", "--show-toplevel").strip() != str(REPOSITORY):
        pytest.skip("no git checkout of its own")
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return sorted(path for name in listed if name and (path := REPOSITORY / name).is_file())


def test_a_checkout_is_small(tracked):
    assert sum(path.stat().st_size for path in tracked) <= MOST_OF_ALL


def test_a_page_is_small(tracked):
    pages = {path: path.stat().st_size for path in tracked if path.suffix == ".html"}
    assert pages
    assert {path: size for path, size in pages.items() if size > MOST_OF_A_PAGE} == {}


def test_of_a_report_git_has_page_numbers_and_the_images_that_a_page_of_the_project_shows(tracked):
    shown = {
        (path.parent / target).resolve()
        for path in tracked
        if path.suffix == ".md"
        for target in re.findall(r"!\[[^\]]*\]\(([^)#?]+)\)", path.read_text(encoding="utf-8"))
    }
    # As HTML, which gives them a width.
    for page in (REPOSITORY / "docs").glob("*.md"):
        targets = re.findall(r'<img src="\.\./(reports/[^"]+)"', page.read_text(encoding="utf-8"))
        shown |= {REPOSITORY / target for target in targets}
    assert shown
    reports = REPOSITORY / "reports"
    others = {path for path in tracked if path.is_relative_to(reports) and path.suffix not in COMMITTED_OF_A_REPORT}
    assert others == {path for path in shown if path.is_relative_to(reports)}


def test_what_is_made_on_demand_is_ignored_beside_a_published_page(tracked):
    folder = "reports/quick/cpu-2core"
    made = [f"{folder}/figures/{name}" for name in ("new.png", "new.svg", "new.pdf")]
    made += [f"{folder}/tables/{name}" for name in ("score.md", "score.tex")]
    assert git("check-ignore", *made).split() == made
    kept = [str(path.relative_to(REPOSITORY)) for path in tracked if path.suffix == ".png"]
    done = subprocess.run(["git", "check-ignore", "--no-index", *kept], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == ""
