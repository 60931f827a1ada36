"""The documentation that `mkdocs build --strict` wrote, opened from the disk on a phone and on a wide screen."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.helpers import REPOSITORY

OTHERS = {"404.html"}  # is served from the root


@pytest.fixture(scope="module")
def documentation(tmp_path_factory):
    """The one that the gate has built, else one made here."""
    if "BENCH_DOCS_DIR" in os.environ:
        return Path(os.environ["BENCH_DOCS_DIR"])
    if shutil.which("mkdocs") is None:
        pytest.skip("pip install -e '.[docs]' brings mkdocs")
    out = tmp_path_factory.mktemp("documentation") / "docs"
    command = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def pages_of(folder):
    return sorted(page for page in folder.glob("*.html") if page.name not in OTHERS)


@pytest.mark.slow
def test_every_link_leads_to_a_file_and_to_a_place_in_it(documentation):
    texts = {page: page.read_text(encoding="utf-8") for page in pages_of(documentation)}
    ids = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in texts.items()}
    assert {page.stem for page in texts} == {"notebook", *(page.stem for page in (REPOSITORY / "docs").glob("*.md"))}
    lost = []
    for page, text in texts.items():
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', text):
            url = urlsplit(link)
            if url.scheme:
                assert url.scheme in ("https", "data"), link
                assert not re.search(rf'<(?:script|link|img)[^>]*"{re.escape(link)}', text) or url.scheme == "data", (
                    link
                )
                continue
            target = page.parent / unquote(url.path) if url.path else page
            known = ids.get(target)
            if not target.exists() or (url.fragment and known is not None and unquote(url.fragment) not in known):
                lost.append((page.name, link))
    assert lost == []


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1400, "dark")])
def test_pages_open_from_the_disk_without_an_error_and_fit_the_screen(browser, documentation, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    sheet = context.new_page()
    problems = []
    sheet.on("console", lambda message: problems.append((sheet.url, message.text)))
    sheet.on("pageerror", lambda error: problems.append((sheet.url, str(error))))

    def refuse(sent):
        if sent.failure != "net::ERR_ABORTED":  # an icon that the next page came before
            problems.append((sheet.url, sent.url, sent.failure))

    sheet.on("requestfailed", refuse)
    for path in pages_of(documentation):
        sheet.goto(path.resolve().as_uri())
        wide, images, dark = sheet.evaluate("""() => [document.documentElement.scrollWidth,
            [...document.images].filter(e => e.complete && !e.naturalWidth).map(e => e.src),
            document.body.dataset.mdColorScheme]""")
        if wide > width or images or dark != ("slate" if scheme == "dark" else "default"):
            problems.append((path.name, wide, images, dark))
    context.close()
    assert problems == []
