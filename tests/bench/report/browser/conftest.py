"""A browser, and a page opened in it on a wide screen and on that of a phone."""

import pytest

from tests.bench.report.browser.pages import CHROMIUM, COMMITTED, FLAGS, SIZES, Opened, write_made_up_report


@pytest.fixture(scope="package")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]' brings playwright")
    if CHROMIUM is None:
        pytest.skip("no browser on the path: `apt-get install chromium fonts-dejavu-core`, or Google Chrome")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def made_up(tmp_path_factory):
    return write_made_up_report(tmp_path_factory.mktemp("made_up"))


@pytest.fixture(scope="module", params=SIZES)
def size(request):
    return request.param


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in ("made_up", *COMMITTED)])
def opened(request, browser, size):
    path = request.getfixturevalue("made_up") if request.param == "made_up" else COMMITTED[request.param]
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    page = context.new_page()
    page.set_default_timeout(10_000)
    problems, requests = [], []

    def listen(message):
        if message.type in ("error", "warning"):
            problems.append(message.text)

    def refuse(dialog):
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", listen)
    page.on("dialog", refuse)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda sent: requests.append(sent.url))
    page.on("requestfailed", lambda sent: problems.append(f"failed: {sent.url[:200]}"))
    page.goto(path.resolve().as_uri())
    # Nothing is judged before it is drawn, and what is folded away is judged too.
    page.evaluate("""async () => {
        document.querySelectorAll("details").forEach(e => e.open = true);
        await document.fonts.ready;
        await Promise.all([...document.images].map(e => (e.loading = "eager", e.decode().catch(() => {}))));
    }""")
    yield Opened(page, path, size, problems, requests)
    context.close()
