"""The pages of docs/: every code block is run as a reader would, cut short where it takes minutes.

A page is run from top to bottom in an empty folder: a block with a title is the file of that name, Python is executed,
and each `bench` line is a command of this process. What no test can afford, hours of outer-training for one, is parsed
to the last option and value; the notebook is executed by `mkdocs build`.
"""

import os
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import click
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import bench
from bench.cli import main as cli
from bench.suites.suite import load_suite
from learned.config import load_config
from tests.bench.conftest import draw_nothing
from tests.helpers import REPOSITORY

DOCS = REPOSITORY / "docs"
BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
TOOLS = {"bash", "export", "lint-imports", "mkdocs", "pyright", "pytest", "python", "ruff"}  # what the gate runs
PARSED = {"claims", "outer-train", "prepare", "time"}  # minutes to hours, or data or results that are not here
SHORT = ["--seeds", "0", "--steps", "20", "--set", "timing_blocks=0"]


def text_of(page):
    """A page with the files that it shows."""
    return re.sub(
        r'^--8<-- "(.*)"$', lambda found: (REPOSITORY / found[1]).read_text(), page.read_text(), flags=re.MULTILINE
    )


PAGES = {page.stem: text_of(page) for page in sorted(DOCS.glob("*.md"))}
BLOCKS = {name: BLOCK.findall(text) for name, text in PAGES.items()}


def commands(code):
    """The words of each command of a block of bash, without variables and the cores that it is bound to."""
    for line in code.replace("\\\n", " ").splitlines():
        for command in line.split("&&"):
            words = shlex.split(command, comments=True)
            while words and "=" in words[0]:
                del words[0]
            yield from [words[3:] if words[:1] == ["taskset"] else words] if words else []


def option(words, *names):
    """Whether one of some options is among the words."""
    return any(word.partition("=")[0] in names for word in words)


def cut_short(words):
    """The words of a `bench` command that a test can afford, with the same ending; None where it is parsed alone."""
    name, *rest = words
    suite = next((word for word in rest[:1] if not word.startswith("-")), "quick")
    made_elsewhere = option(rest, "--outer", "--weights-dir") or any(word.endswith(".safetensors") for word in rest)
    if name in PARSED or made_elsewhere or words == ["verify"]:
        return None
    if name == "run" and not option(rest, "--dry-run") and suite != "quick":
        needs = load_suite(suite).kind == "train" and "TFDS_DATA_DIR" not in os.environ
        return None if needs else [*words, "--dry-run"]
    if name in ("run", "publish"):
        part = [] if option(rest, "-t") else ["-t", "digits8_mlp"]
        part += [] if option(rest, "-o") else ["-o", "adam"]
        return words if option(rest, "--dry-run") else [*words, *part, *SHORT]
    return [*words, "--steps", "4"] if name == "tune" else words


# Every page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, blocks in BLOCKS.items() if blocks])
def test_every_block_reads_as_its_language_and_every_command_takes_its_options(name):
    assert PAGES[name].count("```") == 2 * len(BLOCKS[name])
    for language, _, code in BLOCKS[name]:
        assert language in ("bash", "python", "text", "toml")
        if language == "python":
            compile(code, name, "exec")
        if language == "toml":
            tomllib.loads(code)
        for words in commands(code) if language == "bash" else ():
            if words[0] != "bench":
                assert words[0] in TOOLS, words
                continue
            command = cli.cli.commands[words[1]]
            with command.make_context(words[1], words[2:], parent=click.Context(cli.cli)):
                pass


def test_the_navigation_has_every_page_and_the_reference_every_public_function():
    named = re.findall(r": (\w+)\.(?:md|ipynb)$", (REPOSITORY / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted([*PAGES, "notebook"])
    assert set(re.findall(r"^::: bench\.(\w+)$", PAGES["python"], flags=re.MULTILINE)) == set(bench.__all__)


def test_the_notebook_is_kept_without_what_it_printed():
    """Light, and `mkdocs build` executes it anew."""
    assert '"outputs": []' in (text := (DOCS / "notebook.ipynb").read_text())
    assert not re.search(r'"outputs": \[\s*\{|"execution_count": \d', text)


# Page by page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(tmp_path, monkeypatch, capsys):
    """Someone who does what a page says, in a folder that has published results and no figure drawn."""
    for name in [name for name in os.environ if name.startswith("BENCH_") and name != "BENCH_CACHE_DIR"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    draw_nothing(monkeypatch)
    published = Path("results", "quick", "cpu-2core")
    shutil.copytree(REPOSITORY / published, tmp_path / published)
    rng = np.random.default_rng(0)
    theta = {"in": rng.normal(size=8), "bias": np.zeros(8), "out": np.ones(8)}  # what the page of plug-in weights has
    save_file({name: leaf.astype(np.float32) for name, leaf in theta.items()}, tmp_path / "my_weights.safetensors")

    def read(blocks):
        for language, title, code in blocks:
            if title:
                Path(title).write_text(code)
            elif language == "python":
                with jax.numpy_rank_promotion("allow"):  # as a reader has it
                    exec(compile(code, "a block", "exec"), {})
            for words in commands(code) if language == "bash" else ():
                short = cut_short(words[1:]) if words[0] == "bench" else None
                if short:
                    with pytest.raises(SystemExit) as ended:
                        cli.main(short)
                    assert not ended.value.code, (short, capsys.readouterr().err)

    return read


ELSEWHERE = {"elsewhere"}  # weights that do not ship: tests/learned/test_elsewhere.py runs it on made-up ones


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, blocks in BLOCKS.items() if blocks and name not in ELSEWHERE])
def test_a_page_does_what_it_says(reader, name):
    reader(BLOCKS[name])


def test_the_configuration_of_the_page_on_outer_training_is_one(tmp_path):
    ((title, code),) = [(title, code) for language, title, code in BLOCKS["outer_train"] if language == "toml"]
    (tmp_path / title).write_text(code)
    config = load_config(str(tmp_path / title))
    assert (config.name, config.seed, config.begin_from) == ("my_own", 1, "lopt_paper_small")


def test_what_readme_adds_is_what_the_pages_add():
    """So that it runs: `Take the optimizer home` has a test of its own beside it."""
    of_pages = {code for blocks in BLOCKS.values() for language, _, code in blocks if language == "python"}
    of_readme = {
        code for language, _, code in BLOCK.findall((REPOSITORY / "README.md").read_text()) if language == "python"
    }
    assert [code for code in of_readme - of_pages if "learned.load(" not in code] == []
