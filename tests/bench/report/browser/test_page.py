"""The page as a browser shows it: nothing overlaps, is cut off, or leads nowhere."""

import itertools
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.bench.report.browser.pages import COMMITTED

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]' brings playwright")


def test_nothing_goes_wrong_while_the_page_loads(opened):
    assert opened.problems == []
    assert opened.page.locator("h1").count() == 1  # a page that is there at all


def test_the_page_works_offline_since_it_asks_for_nothing_but_itself(opened):
    assert {urlsplit(url).scheme for url in opened.requests} <= {"file", "data"}
    assert [unquote(urlsplit(url).path) for url in opened.requests if url.startswith("file:")] == [
        str(opened.path.resolve())
    ]


def test_nothing_is_wider_than_the_screen(opened):
    # Wide tables and figures scroll within a box of their own.
    beyond = opened.find("""
        const scrolls = e => ["auto", "scroll"].includes(style(e).overflowX);
        const boxed = e => { while ((e = e.parentElement) && e !== document.body) if (scrolls(e)) return true; };
        const {scrollWidth} = document.documentElement;
        if (scrollWidth <= innerWidth) return [];
        return [`${scrollWidth} > ${innerWidth}`,
            ...all("body *").filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !boxed(e)).map(name)];
    """)
    assert beyond == []


def test_headings_form_an_outline(opened):
    levels = opened.find('return all("h1, h2, h3, h4, h5, h6").filter(visible).map(e => Number(e.tagName[1]));')
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_the_page_names_its_language_its_title_and_each_element_once(opened):
    assert opened.page.get_attribute("html", "lang")
    assert opened.page.title()
    ids = opened.find('return all("[id]").map(e => e.id);')
    assert sorted(ids) == sorted(set(ids))


def test_images_are_drawn_and_described(opened):
    # Where the script draws a chart, its image waits for the printer and for who asks for it.
    missing = opened.find("""
        const shown = e => visible(e) || e.closest(".interactive")?.querySelector(".plot svg");
        return all("img").filter(e => !e.alt.trim() || !e.naturalWidth || !shown(e)).map(name);
    """)
    assert missing == []
    assert opened.page.locator("img").count() > 0


def test_tables_are_named_scoped_and_scrolled_by_keyboard(opened):
    problems = opened.find("""
        return all("table").flatMap(table => {
            let region = table.parentElement;
            while (region && !["auto", "scroll"].includes(style(region).overflowX)) region = region.parentElement;
            const label = region?.getAttribute("aria-label")
                || document.getElementById(region?.getAttribute("aria-labelledby"))?.textContent;
            return Object.entries({
                "no id table-SLUG": !/^table-./.test(table.id),
                "no caption": !table.caption || !text(table.caption),
                "th without scope": !all("th", table).every(e => /^(col|row)(group)?$/.test(e.scope)),
                "rows without a header": !all("tbody tr", table).every(e => e.querySelector("th")),
                "no box to scroll in": !region,
                "box out of reach of the keyboard": region?.tabIndex !== 0,
                "box without role and label": region?.getAttribute("role") !== "region" || !label?.trim(),
            }).filter(([, is]) => is).map(([problem]) => `${table.id}: ${problem}`);
        });
    """)
    assert problems == []


def test_the_names_in_a_wide_table_leave_room_for_its_numbers(opened):
    # The first column stays in place while the others scroll past it.
    narrowed = opened.find("""
        return all("tbody th").filter(e => style(e).position === "sticky").map(e => {
            const box = e.closest("[tabindex]");
            return [box.scrollWidth > box.clientWidth && e.offsetWidth / box.clientWidth, name(e)];
        }).filter(([share]) => share > 0.5);
    """)
    assert narrowed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(opened, scheme):
    # Web Content Accessibility Guidelines 2.2, success criterion 1.4.3: a contrast of 4.5.
    opened.page.emulate_media(color_scheme=scheme)
    faint = opened.find("""
        const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
        const rgba = color => {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
            return [[r, g, b], a / 255];
        };
        const over = ([color, alpha], below) => color.map((c, i) => alpha * c + (1 - alpha) * below[i]);
        const luminance = color => color.map(c => c / 255)
            .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const background = e => e ? over(rgba(style(e).backgroundColor), background(e.parentElement)) : [255, 255, 255];
        const opacity = e => e ? Number(style(e).opacity) * opacity(e.parentElement) : 1;
        return all("body, body *").filter(e => ownText(e) && visible(e)).map(e => {
            const below = background(e), [color, alpha] = rgba(style(e).color);
            const pair = [luminance(below), luminance(over([color, alpha * opacity(e)], below))];
            return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), name(e)];
        }).filter(([contrast]) => !(contrast >= 4.5));
    """)
    opened.page.emulate_media(color_scheme="light")
    assert faint == []


def test_no_two_blocks_overlap(opened):
    overlaps = opened.find("""
        const shows = e => isBox(e) && (text(e) || e.matches("img, svg, canvas"));
        return all("body, body *").flatMap(parent => {
            const boxes = [...parent.children].filter(shows).map(e => [e, e.getBoundingClientRect()]);
            return boxes.flatMap(([e, a], i) => boxes.slice(i + 1)
                .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5
                    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1.5)
                .map(([other]) => `${name(e)} | ${name(other)}`));
        });
    """)
    assert overlaps == []


def test_no_text_is_cut_off_or_spills_out_of_its_box(opened):
    cut = opened.find("""
        const hides = value => ["hidden", "clip"].includes(value);
        const within = (e, box) => e.left >= box.left - 1 && e.right <= box.right + 1 && e.bottom <= box.bottom + 1;
        const drawn = all("svg text").filter(visible)
            .filter(e => !within(e.getBoundingClientRect(), e.ownerSVGElement.getBoundingClientRect()));
        return all("body :not(svg, svg *)").filter(e => isBox(e) && text(e)).filter(e => {
            const {overflowX, overflowY} = style(e);
            const wide = e.scrollWidth > e.clientWidth + 1, high = e.scrollHeight > e.clientHeight + 2;
            return wide && (hides(overflowX) || overflowX === "visible" && ownText(e)) || high && hides(overflowY);
        }).concat(drawn).map(name);
    """)
    assert cut == []


def test_links_within_the_page_lead_to_the_top_of_their_section(opened):
    nowhere = opened.find("""
        const leads = e => document.getElementById(decodeURIComponent(e.hash.slice(1)));
        return all('a[href^="#"]').filter(e => !leads(e)).map(name);
    """)
    assert nowhere == []
    links = opened.page.locator('a[href^="#"]')
    assert links.count() >= opened.page.locator("section > h2").count() >= 2  # each section is in the line of links
    lost = []
    for link in links.all():
        anchor = unquote(link.get_attribute("href")[1:])
        link.click()
        # A section near the end comes as far up as the page scrolls.
        arrived = """anchor => {
            const {top} = document.getElementById(anchor).getBoundingClientRect();
            const ended = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
            return top > -2 && top < (ended ? innerHeight : innerHeight / 4);
        }"""
        try:
            opened.page.wait_for_function(arrived, arg=anchor, timeout=2_000)
        except sync_api.TimeoutError:
            lost.append(anchor)
    assert lost == []


def test_links_out_of_the_page_lead_to_files_or_papers(opened):
    for link in opened.find('return all("a[href]").map(e => e.getAttribute("href"));'):
        url = urlsplit(link)
        if url.scheme in ("http", "https"):
            assert url.hostname.removeprefix("www.") in ("arxiv.org", "doi.org"), link
        elif url.path:
            assert not url.scheme, link
            assert (opened.folder / unquote(url.path)).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize(
    "opened", ["made_up", *(COMMITTED if "BENCH_SCREENSHOT_DIR" in os.environ else ())], indirect=True
)
def test_the_whole_page_can_be_looked_at(opened, tmp_path, monkeypatch):
    name = "made-up" if opened.path not in COMMITTED.values() else "-".join(opened.folder.parts[-2:])
    target = tmp_path / f"{name}-{opened.size}.png"
    width, height = opened.find("return [innerWidth, document.documentElement.scrollHeight];")
    opened.page.screenshot(path=target, full_page=True, timeout=300_000)  # 70,000 lines of pixels on a busy machine
    if folder := os.environ.get("BENCH_SCREENSHOT_DIR"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(target, folder)
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # of our own making; a page of ten tasks is a long one
    with Image.open(target) as image:
        assert image.size == (width, height)
        assert len(image.reduce(8).convert("L").getcolors()) > 10  # not a blank sheet
