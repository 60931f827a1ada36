"""Each rule of bench/PROTOCOL.md is the assertion of at least one test here, which is marked with its number.

`pytest tests/bench -m "rule and (slow or not slow)"` runs them all, `grep -rn "rule(7)" tests/bench` finds those of 7.
"""

import ast
import re

from tests.helpers import REPOSITORY

RULES = re.findall(r"^(\d+)\. \*\*", (REPOSITORY / "bench" / "PROTOCOL.md").read_text(), re.MULTILINE)


def marked_rules(node):
    """The numbers on the marks of a function or class."""
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.rule":
            yield from map(ast.literal_eval, decorator.args)


def rules_of_tests():
    """Rule -> tests, of what pytest collects by its names: functions `test_*` of files `test_*.py`, and of `Test*`."""
    found = {}
    for path in sorted((REPOSITORY / "tests" / "bench").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            tests = [node] if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") else []
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                tests = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")]
            for test in tests:
                for number in {*marked_rules(test), *marked_rules(node)}:
                    found.setdefault(number, []).append(f"{path.name}::{test.name}")
    return found


def test_each_of_the_sixteen_rules_has_a_test_that_is_marked_with_it():
    assert [int(number) for number in RULES] == list(range(1, 18))
    assert sorted(rules_of_tests()) == list(range(1, 18))
