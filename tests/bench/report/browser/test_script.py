"""What the page's script adds: a first screen that shows, charts, tables that sort, links that unfold."""

import json

import pytest

from tests.bench.report.browser.pages import COMMITTED

PAPER = "paper-cpu-2core"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("opened", ["made_up", *({PAPER} & set(COMMITTED))], indirect=True),
]


@pytest.fixture
def page(opened):
    """The page as it loads, nothing unfolded or scrolled; what the console says afterwards is judged too."""
    opened.page.reload()
    opened.page.wait_for_selector(".plot svg")
    yield opened
    assert opened.problems == []


def chart_of(opened, number=0):
    return opened.page.locator("figure:has(.chart)").nth(number)


def data_of(figure):
    return json.loads(figure.locator("script").text_content())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_screen_is_a_sentence_a_figure_and_where_it_is_wide_speed_ups_and_a_table(page, scheme):
    page.page.emulate_media(color_scheme=scheme)
    seen = page.find("""
        const share = e => {
            const {top, bottom} = e.getBoundingClientRect();
            return Math.max(0, Math.min(bottom, innerHeight) - Math.max(top, 0)) / (bottom - top);
        };
        const first = selector => share(document.querySelector(selector));
        return {sentence: first(".lead"), chart: first(".plot svg"), speedups: first("#figure-speedup_by_task"),
            headers: first("#table-leaders thead"), columns: all("#table-leaders thead th").length,
            ground: style(document.body).backgroundColor, folded: !document.querySelector("details[open]")};
    """)
    page.page.emulate_media(color_scheme="light")
    assert (seen["sentence"], seen["chart"]) == (1, 1)
    if page.size == "wide":
        assert seen["speedups"] > 0.5
        assert seen["headers"] == 1
    assert seen["columns"] <= 6
    assert (seen["ground"] == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_controls_are_one_line_that_opens(page):
    line = page.page.locator("details:has(#table-controls) > summary").first
    counted = [int(word) for word in line.text_content().replace(",", "").split() if word.isdigit()]
    column = page.find("""
        const at = all("#table-controls thead th").map(text).indexOf("as expected");
        return all("#table-controls tbody tr").map(row => text(row.cells[at]));
    """)
    assert counted[:2] == [column.count("yes"), column.count("yes") + column.count("no")]
    table = page.page.locator("#table-controls")
    assert not table.is_visible()
    line.click()
    assert table.is_visible()


def test_a_chart_has_the_last_values_and_by_pointer_and_keys_those_between(page):
    figure = chart_of(page)
    lines = data_of(figure)["lines"]
    legend = [text.split(" [")[0] for text in figure.locator(".legend button span").all_text_contents()]
    assert [float(text) for text in legend] == pytest.approx([line["median"][-1] for line in lines], rel=5e-3)
    plot = figure.locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.page.mouse.move(box["x"] + 60, box["y"] + 60)
    assert float(figure.locator(".at").text_content().rstrip(":").split()[-1]) < 0.2 * max(x["x"][-1] for x in lines)
    early = figure.locator(".legend button span").first.text_content()
    assert float(early.split(" [")[0]) > float(legend[0])
    page.page.mouse.move(0, 0)
    plot.focus()
    page.page.keyboard.press("Home")
    first = figure.locator(".legend button span").first.text_content().split(" [")[0]
    assert float(first) == pytest.approx(lines[0]["median"][0], rel=5e-3)
    page.page.keyboard.press("ArrowRight")
    assert figure.locator(".at").text_content() != ""
    assert figure.locator(".at").get_attribute("aria-live") == "polite"


def test_a_chart_has_its_title_and_says_what_its_values_are(page):
    figure = chart_of(page)
    data = data_of(figure)
    assert figure.locator(".title").text_content() == data["title"]
    assert figure.locator(".at").text_content().startswith(f"Last value, {data['values']}; ")


def test_samples_of_the_legend_have_the_dashes_of_their_lines_and_no_band_lies_on_a_line(page):
    figure = chart_of(page)
    dashes = "e => e.map(x => x.getAttribute('stroke-dasharray'))"
    samples = figure.locator(".legend:not(details .legend) i path").evaluate_all(dashes)
    drawn = figure.locator(".lines path[stroke]").evaluate_all(dashes)
    assert samples == drawn[::-1]
    bands = figure.locator(".lines path").evaluate_all("e => e.map(x => x.hasAttribute('fill-opacity'))")
    assert bands == sorted(bands, reverse=True)


def test_rows_of_a_chart_come_and_go(page):
    figure = chart_of(page)
    drawn = figure.locator(".lines path[stroke]")
    button, number = figure.locator(".legend button").first, drawn.count()
    assert number == sum(not line["hidden"] for line in data_of(figure)["lines"])
    for pressed, expected in (("false", number - 1), ("true", number)):
        button.click()
        assert button.get_attribute("aria-pressed") == pressed
        assert drawn.count() == expected


def test_a_chart_gives_way_to_its_image_on_demand_and_on_paper(page):
    figure = chart_of(page)
    image, swap = figure.locator("img"), figure.locator(".swap")
    assert not image.is_visible()
    swap.click()
    assert image.is_visible()
    assert not figure.locator(".chart").is_visible()
    swap.click()
    page.page.emulate_media(media="print")
    assert image.is_visible()
    assert not figure.locator(".chart").is_visible()
    page.page.emulate_media(media="screen")


def test_a_table_sorts_by_a_column_and_back(page):
    header = page.page.locator("#table-leaders thead th").nth(4)
    read = """
        return all("#table-leaders tbody tr").map(row => parseFloat(text(row.cells[4]))).filter(x => !isNaN(x));
    """
    for direction, sign in (("ascending", 1), ("descending", -1)):
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == direction
        values = page.find(read)
        assert values == sorted(values, key=lambda x: sign * x)


def test_a_link_unfolds_what_it_leads_to(page):
    folded = page.page.locator("details:not([open]) [id^=table-]").first.get_attribute("id")
    page.page.evaluate("id => { location.hash = id; }", folded)
    page.page.wait_for_function("id => document.getElementById(id).checkVisibility()", arg=folded)


def test_without_a_script_every_image_is_there(browser, opened):
    context = browser.new_context(java_script_enabled=False, offline=True)
    bare = context.new_page()
    bare.goto(opened.path.resolve().as_uri())
    images = bare.locator(".figures > figure > .image > img")
    assert images.count() > 3
    assert images.first.is_visible()
    context.close()
