"""The page as a browser shows it: a made-up report and every committed one, on a wide screen and on a phone's."""

import csv
import io
import itertools
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

from bench.report import write_report
from bench.report.verify import published_reports
from bench.tuning.targets import GROUPS, Targets
from tests.bench.test_report import OPTIMIZERS, make_frames

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]' brings playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",  # root in a container has none
    "--disable-gpu",
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--no-first-run",
]
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}

REPORTS_DIR = Path(__file__).parents[2] / "reports"
COMMITTED = {
    f"{suite}-{label}": REPORTS_DIR / suite / label / "report.html"
    for suite, label in published_reports(REPORTS_DIR)
    if (REPORTS_DIR / suite / label / "report.html").exists()
}
HOSTILE = "<script>alert(1)</script> & \"'"
LONG = "a_learned_optimizer_whose_name_takes_sixty_characters_in_all"
ROWS = {
    **{name: OPTIMIZERS[name] for name in ("adam", "muon", "lopt")},
    HOSTILE: OPTIMIZERS["sgdm"],
    LONG: OPTIMIZERS["lopt"],
    "adam_again": ("control", 0.30, 6.0, 1.0e-3),
    "adam_twice": ("control", 0.30, 6.0, 2.0e-3),
    "adam_frozen": ("control", 2.30, 0.0, 1.0e-3),
    "adam_10x": ("control", 0.90, 2.0, 1.0e-3),
}
STATUSES = {
    ("digits_mlp", "adam", 3): "diverged",
    ("digits_conv", LONG, 0): "error",
    ("digits_conv", HOSTILE, 1): "error",
}
LEVELS = {"hard": 0.35, "medium": 0.5, "easy": 1.0}  # losses; those of the made-up curves fall from 2.3 to about 0.3


def write_made_up_report(folder):
    """Two tasks, failures, controls, targets, and names that would break a careless page."""
    tasks = ("digits_mlp", "digits_conv")
    cells, curves = make_frames(ROWS, tasks, statuses=STATUSES, curve_metrics=("train_loss",))  # fewer figures
    levels = {name: {"train_loss": LEVELS, "validation_loss": LEVELS} for name in ("adam", "muon", HOSTILE)}
    targets = {
        task: Targets(task, 500, levels, dict.fromkeys(GROUPS, "adam"), made_at="", digest="", identities={})
        for task in tasks
    }
    about = "Made-up numbers, to look at the page."
    named = {"title": "A report", "suite": "quick", "label": "local", "description": about}
    return write_report(cells, curves, folder, targets=targets, headline="lopt", **named)


class Opened(NamedTuple):
    page: object
    path: Path
    size: str
    problems: list[str]  # errors and warnings of the console, errors of the page, dialogs, requests that failed
    requests: list[str]

    @property
    def folder(self):
        return self.path.parent

    def find(self, script):
        return self.page.evaluate(HELPERS + script + "\n}")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no browser on the path: `apt-get install chromium fonts-dejavu-core`, or Google Chrome")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
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


# What the scripts below share: how an element is named in a message, and what a reader can see.
HELPERS = r"""() => {
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const text = e => e.textContent.replace(/\s+/g, " ").trim();
const name = e => e.tagName.toLowerCase() + (e.id ? "#" + e.id : e.className ? "." + e.className : "")
    + ` in ${e.closest("[id]")?.id ?? "the page"}: ${text(e).slice(0, 60)}`;
const style = e => getComputedStyle(e);
const visible = e => {
    const {width, height} = e.getBoundingClientRect();
    return width > 1 && height > 1 && e.checkVisibility({visibilityProperty: true, opacityProperty: true});
};
const ownText = e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
const isBox = e => !["inline", "contents", "none"].includes(style(e).display) && visible(e);
all("*").forEach(e => e.scrollTo({top: 0, left: 0, behavior: "instant"}));
"""


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
    missing = opened.find('return all("img").filter(e => !e.alt.trim() || !e.naturalWidth || !visible(e)).map(name);')
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
        return all("body *").filter(e => isBox(e) && text(e)).filter(e => {
            const {overflowX, overflowY} = style(e);
            const wide = e.scrollWidth > e.clientWidth + 1, high = e.scrollHeight > e.clientHeight + 2;
            return wide && (hides(overflowX) || overflowX === "visible" && ownText(e)) || high && hides(overflowY);
        }).map(name);
    """)
    assert cut == []


def test_links_within_the_page_lead_to_the_top_of_their_section(opened):
    nowhere = opened.find("""
        const leads = e => document.getElementById(decodeURIComponent(e.hash.slice(1)));
        return all('a[href^="#"]').filter(e => !leads(e)).map(name);
    """)
    assert nowhere == []
    links = opened.page.locator('a[href^="#"]')
    assert links.count() >= 3
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


# ---------------------------------------------------------------------------------------------------------------------
# Numbers: what a cell reads against the value in the file beside the page
# ---------------------------------------------------------------------------------------------------------------------

DASH = "–"
NUMBER = re.compile(r"[+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?|∞")


def printed_numbers(text):
    """(value, half a unit of its last digit) of each number in a text."""
    found = []
    for match in NUMBER.findall(text):
        if match == "∞":
            found.append((math.inf, 0.0))
            continue
        plain = match.replace(",", "").replace("−", "-")
        mantissa, _, exponent = plain.partition("e")
        found.append((float(plain), 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))))
    return found


def agrees(printed, value, half_width=0.0):
    """Whether a printed number is a value, rounded.

    A short number may have lost its trailing zeros, 0.5 for 0.500: then two digits must be right, of it or of its
    interval's half-width.
    """
    number, half_unit = printed
    if math.isinf(value):
        return number == value
    needed = max(0.05 * abs(value), 0.05 * abs(half_width), 5e-5)
    return abs(number - value) <= min(half_unit, needed) * (1 + 1e-6)


def interval_agrees(text, value, low=None, high=None, scale=1.0):
    """Whether "0.123 [0.120, 0.126]" is an estimate with its bounds, or "<0.54" or "1 (reference)" an estimate."""
    if value is None:  # no number then, but perhaps the reason: "1 failed"
        return text == DASH or (re.search("[a-z]{2}", text) is not None and "." not in text)
    if text in ("not finite", "not known"):
        return math.isinf(value) if text == "not finite" else math.isnan(value)
    before, bracket, after = text.partition("[")
    estimate, bounds = printed_numbers(before), printed_numbers(after)
    half_width = 0.0 if low is None or high is None else scale * (high - low) / 2
    if len(estimate) != 1 or len(bounds) != (2 if bracket else 0) or (bracket and None in (low, high)):
        return False
    values = (value, low, high) if bracket else (value,)
    return all(agrees(shown, scale * x, half_width) for shown, x in zip(estimate + bounds, values, strict=True))


def text_agrees(text, value, scale=1.0):
    """Whether a cell without an interval is the field: the same text, the same number, or a name and its marks."""
    value = " ".join(value.split())
    if text == value or (text == DASH and value in ("", "{}")):
        return True
    if value.startswith("{"):  # hyperparameters: "learning_rate = 0.001, ..."
        pairs = dict(pair.split(" = ", 1) for pair in re.split(r", (?=\w+ = )", text))
        settings = json.loads(value)
        return list(pairs) == list(settings) and all(
            text_agrees(pairs[key], x if isinstance(x, str) else json.dumps(x)) for key, x in settings.items()
        )
    if re.fullmatch(NUMBER, value):
        printed = printed_numbers(text)
        below = text.startswith("<") and scale * float(value) < printed[0][0]  # a p-value: "<0.0001"
        return len(printed) == 1 and (below or agrees(printed[0], scale * float(value)))
    return text.startswith(value) and re.fullmatch(r"[^\w\s]{1,3}", text[len(value) :].strip()) is not None


def scale_of(header, text):
    """The unit on the page over the unit in the file."""
    if re.search(r"\bms\b", header):
        return 1e3
    return 100.0 if re.search(r"\d ?%", text) or "%" in header else 1.0


def read_tables(opened):
    """Slug -> (headers, rows) of what can be seen."""
    return opened.find("""
        return Object.fromEntries(all("table").map(table => [table.id.replace("table-", ""), [
            all("thead th", table).filter(visible).map(text),
            all("tbody tr", table).filter(visible).map(row => all("th, td", row).filter(visible).map(text))]]));
    """)


def read_file(folder, slug):
    """Keys of the columns and, row by row, their fields: text, or (estimate, low, high) where a column has bounds."""
    header, *lines = csv.reader(io.StringIO((folder / "tables" / f"{slug}.csv").read_text(encoding="utf-8")))
    keys = [key for key in header if re.sub(r"_(low|high|n)$", "", key) not in set(header) - {key}]
    rows = []
    for line in lines:
        fields = dict(zip(header, line, strict=True))
        rows.append(
            [
                tuple(float(fields[key + part]) if fields[key + part] else None for part in ("", "_low", "_high"))
                if f"{key}_low" in fields
                else fields[key]
                for key in keys
            ]
        )
    return keys, rows


def test_every_cell_of_every_table_is_the_one_in_the_file_beside_it(opened):
    tables = read_tables(opened)
    assert set(tables) == {path.stem for path in (opened.folder / "tables").glob("*.csv")}
    problems, compared = [], 0
    for slug, (headers, rows) in tables.items():
        keys, expected = read_file(opened.folder, slug)
        assert (len(headers), len(rows)) == (len(keys), len(expected)), slug
        for row, fields in zip(rows, expected, strict=True):
            for header, key, text, field in zip(headers, keys, row, fields, strict=True):
                scale = scale_of(header, text)
                if isinstance(field, str):
                    right = text_agrees(text, field, scale)
                elif slug == "controls" and field[0] is None:
                    continue  # a rank, a range: the next tests compare them to `report.json`
                else:
                    right = interval_agrees(text, *field, scale=scale)
                compared += 1
                if not right:
                    problems.append(f"{slug}, {row[0]}, {key}: {text!r} for {field}")
    assert problems == []
    assert compared > 100


def read_screen(opened):
    screen = json.loads((opened.folder / "report.json").read_text(encoding="utf-8"))
    if isinstance(screen, list):
        pytest.skip("a measurement: it ranks nothing")
    return screen


def score_problems(fields, row):
    """The cells of a row of a table of scores that are not what `report.json` says of the optimizer."""
    for key, text in fields.items():
        value = row["speedup"][key.removesuffix("_speedup")] if key.endswith("_speedup") else row[key]
        if isinstance(value, str):
            right = text == " ".join(value.split())
        else:
            right = interval_agrees(text, value["estimate"], value["low"], value["high"], scale_of("", text))
            right &= text.startswith("<") == ("bound" in value)
        if not right:
            yield f"{row['task']}, {row['optimizer']}, {key}: {text!r} for {value}"


def test_the_scores_on_the_page_are_those_of_the_json_file(opened):
    screen, tables = read_screen(opened), read_tables(opened)
    by_task = {}
    for row in screen["rows"]:
        by_task.setdefault(row["task"], {})[" ".join(row["optimizer"].split())] = row
    shown = set()
    for slug in [slug for slug in tables if slug == "score" or slug.startswith("score_")]:
        keys, _ = read_file(opened.folder, slug)
        table = {fields["optimizer"]: fields for fields in (dict(zip(keys, r, strict=True)) for r in tables[slug][1])}
        assert len(table) == len(tables[slug][1])
        # A table's task is told by its numbers: where none fits, the nearest says what is wrong.
        problems = {
            task: [problem for name, row in rows.items() for problem in score_problems(table[name], row)]
            for task, rows in by_task.items()
            if set(rows) == set(table)
        }
        assert min(problems.values(), key=len) == [], slug
        shown |= {task for task, found in problems.items() if not found}
    assert "score" in tables
    assert shown == set(by_task)


def test_the_controls_on_the_page_are_those_of_the_json_file(opened):
    screen, tables = read_screen(opened), read_tables(opened)
    keys, _ = read_file(opened.folder, "controls")
    shown = [row[keys.index("measured")] for row in tables["controls"][1]]
    found_controls = screen["controls"] | {
        f"{key} {name}": value
        for key in ("untrained", "untrained_test_loss")
        for name, value in screen["controls"].get(key, {}).items()
    }
    measured = {k: v for k, v in found_controls.items() if isinstance(v, dict) and {"rank", "estimate"} & v.keys()}
    for key, value in measured.items():
        if value.get("rank"):
            found = [text for text in shown if text == f"{value['rank']} of {value['of']}"]
        elif value.get("estimate") is not None:
            estimate, low, high = (value[name] for name in ("estimate", "low", "high"))
            found = [text for text in shown if interval_agrees(text, estimate, low, high, scale_of("", text))]
        else:
            found = [DASH] if DASH in shown else []
        assert found, f"{key}: none of {shown} is {value}"
        shown.remove(found[0])
    ratios = [race["predicted_over_raced"] for race in screen["races"]]
    for text in shown:  # what is left sums up the races: "0.70 to 0.79"
        printed = printed_numbers(text)
        assert bool(printed) == bool(ratios), text
        assert all(any(agrees(number, ratio) for ratio in ratios) for number in printed), text


def test_the_races_on_the_page_are_those_of_the_json_file(opened):
    screen, tables = read_screen(opened), read_tables(opened)
    ran = screen["races"] + screen["races_not_decided"]
    assert ("races" in tables) == bool(ran)
    if ran:
        keys, _ = read_file(opened.folder, "races")
        for race, row in zip(ran, tables["races"][1], strict=True):
            expected = race | {"not_arrived": ", ".join(race.get("not_arrived", []))}
            shown = {key: text for key, text in zip(keys, row, strict=True) if text != DASH}
            assert shown.keys() == {key for key in keys if expected.get(key)}
            assert [key for key, text in shown.items() if not text_agrees(text, str(expected[key]))] == []


@pytest.mark.parametrize(
    ("text", "value", "right"),
    [
        ("0.123", (0.1234, None, None), True),
        ("0.124", (0.1234, None, None), False),
        ("not finite", (math.inf, None, None), True),
        ("not finite", (1e30, None, None), False),
        ("not known", (math.nan, None, None), True),
        ("not known", (math.inf, None, None), False),
        ("0.5", (0.50002, None, None), True),
        ("0.5", (0.54, None, None), False),  # within half a unit, but no number is printed to one digit
        ("12 [10, 14]", (12.345, 9.9, 14.4), True),
        ("12 [10, 14]", (12.345, 9.9, 15.4), False),
        ("12 [10, 14]", (12.345, None, None), False),
        ("-0.0090 [-0.0166, -0.0013]", (-0.00895, -0.0166, -0.0013), True),
        ("<0.541", (0.540817, 0.0, 0.587), True),
        ("1 (reference)", (1.0, 1.0, 1.0), True),
        ("1.2e-05", (1.23e-5, None, None), True),
        ("–", (None, None, None), True),
        ("0", (None, None, None), False),
        ("–", (0.0, None, None), False),
        ("1 failed", (None, None, None), True),
    ],
)
def test_a_printed_number_is_its_value_to_the_digits_printed(text, value, right):
    assert interval_agrees(text, *value) == right


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
