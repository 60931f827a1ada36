"""A table in LaTeX and CSV, and the digits of its numbers."""

import csv
import io
import math

import pytest

from bench.report.table import Column, Entry, Table, as_written, format_interval
from bench.statistics import Interval


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.123456, 0.1201, 0.1268, 5), "0.1235 [0.1201, 0.1268]"),
        (Interval(12.3456, 10.0, 14.7, 5), "12.3 [10.0, 14.7]"),
        (Interval(1.0, 1.0 - 1e-9, 1.0 + 1e-9, 5), "1.0000 [1.0000, 1.0000]"),
        (Interval(8.02149e-08, 1.95e-08, 1.40897e-07, 5), "8.02e-08 [1.95e-08, 1.41e-07]"),
        (Interval(1234567.0, 1.1e6, 1.4e6, 5), "1.23e+06 [1.1e+06, 1.4e+06]"),
        (Interval(0.0, 0.0, 0.0, 5), "0.0000 [0.0000, 0.0000]"),
        (Interval(0.5, None, None, 3), "0.5"),
        (None, "–"),
    ],
)
def test_decimals_follow_the_width_of_the_interval(interval, text):
    assert format_interval(interval) == text


def test_a_table_is_written_in_latex_with_rules_and_nothing_that_latex_reads_as_its_own():
    columns = (Column("name", "row_1 & 50 %"), Column("value", "value", interval=True))
    rows = ((Entry("[a]_#$"), Entry("<0.25 [0.1, 0.4]", Interval(0.25, 0.1, 0.4, 5), bold=True)), (Entry("–"),) * 2)
    lines = Table("some", "100 % {sure}", columns, rows).latex().splitlines()
    assert lines[3:5] == [r"\caption{100 \% \{sure\}}", r"\label{tab:some}"]
    assert lines[5:10] == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"row\_1 \& 50 \% & value \\",
        r"\midrule",
        r"{[}a{]}\_\#\$ & \textbf{$<$0.25 {[}0.1, 0.4{]}} \\",
    ]
    assert lines[10:] == [r"-- & -- \\", r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def test_an_interval_without_a_count_leaves_the_count_empty():
    table = Table("a", "a", (Column("x", "x", True),), ((Entry("1", Interval(1.0, None, None, 0)),),))
    assert next(iter(csv.DictReader(io.StringIO(table.csv())))) == {"x": "1.0", "x_low": "", "x_high": "", "x_n": ""}


def test_numbers_in_files_have_nine_digits_so_that_any_kind_of_cpu_writes_the_same():
    last_bits_differ = (1.1766864953409149, 1.1766864953409146)  # of one geometric mean on two machines
    assert {as_written(x) for x in last_bits_differ} == {1.1766865}
    written = [as_written(x) for x in (0.1 + 0.2, 1234567890.5, math.inf, 7, True, None, "0.12345678901")]
    assert written == [0.3, 1234567890.0, math.inf, 7, True, None, "0.12345678901"]
    assert isinstance(written[4], bool)
    made = Table("t", "", (Column("x", "x", interval=True),), ((Entry("", Interval(1 / 3, None, 2 / 3, 5)),),))
    assert made.csv() == "x,x_low,x_high,x_n\n0.333333333,,0.666666667,5\n"
