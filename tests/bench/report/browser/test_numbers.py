"""Numbers on the page: what a cell reads against the value in the file beside the page."""

import csv
import io
import json
import math
import re

import pytest

from bench.statistics import three_digits


@pytest.fixture(scope="module", params=["wide"])
def size(request):
    """A cell has the same text on any screen."""
    return request.param


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
    """Whether "0.123 [0.120, 0.126]" is an estimate with its bounds, or "<0.54" or "1 (reference)" an estimate.

    A bound may be in words too: "never reached on 2 of 8 tasks [at most 0.54]".
    """
    if value is None:  # no number then, but perhaps the reason: "1 failed"
        return text == DASH or (re.search("[a-z]{2}", text) is not None and "." not in text)
    if text in ("not finite", "not known"):
        return math.isinf(value) if text == "not finite" else math.isnan(value)
    if bound := re.fullmatch(r"never reached(?: on \d+ of \d+ tasks)? \[at most (.+)\]", text):
        text = f"<{bound[1]}"
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
    if text == value or (text == DASH and value in ("", "{}")) or (text == "not finite" and value == "inf"):
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
    assert compared > (50 if is_measurement(opened) else 100)


def is_measurement(opened):
    return isinstance(json.loads((opened.folder / "report.json").read_text(encoding="utf-8")), list)


def read_screen(opened):
    screen = json.loads((opened.folder / "report.json").read_text(encoding="utf-8"))
    if is_measurement(opened):
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
        for key in ("untrained", "untrained_test_loss", "over_itself")
        for name, value in screen["controls"].get(key, {}).items()
    }
    measured = {k: v for k, v in found_controls.items() if isinstance(v, dict) and {"rank", "estimate"} & v.keys()}
    for key, value in measured.items():
        if value.get("rank"):
            found = [text for text in shown if text == f"{value['rank']} of {value['of']}"]
        elif value.get("bound"):
            found = [text for text in shown if text == f"{value['bound']}{three_digits(value['estimate'])}"]
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
