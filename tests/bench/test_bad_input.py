"""Bad input of every class gets one clear line and the right exit code, and nothing is lost: generated, in-process.

`bench/BAD_INPUT.md` is the page that lists the classes. What is generated here is never run: a case that turns out to
be sound stops at `--dry-run`, or is only read.
"""

import json
import os
import re
import shutil
import string
import warnings
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import learned
from bench.cli import main as cli
from bench.entries.plugins import build_registry
from bench.errors import EXIT_USAGE, UsageError
from bench.store.store import Store
from bench.suites.suite import build_suite
from bench.tuning import targets
from learned import weights
from learned.config import load_config
from tests.bench.synthetic import falling, train_cell
from tests.helpers import assert_one_line

# Folders are made once for all examples of a test: nothing of one is seen by another.
many = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
few = settings(many, max_examples=20)  # a whole command each
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
WORD = st.text(string.ascii_letters + string.digits + "._-/* ", min_size=1, max_size=12)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(), TEXT)
VALUE = st.one_of(SCALAR, st.lists(SCALAR, max_size=3), st.dictionaries(TEXT, SCALAR, max_size=2))


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Runs `bench ...` here: exit code, after checking that an error is one line that is no traceback."""
    for name in ("results", "reports", "cache"):
        monkeypatch.setenv(f"BENCH_{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as done:
            cli.main(list(args))
        err = capsys.readouterr().err
        code = done.value.code or 0
        assert "Traceback" not in err
        assert "internal error" not in err
        if code:
            said = [line for line in err.splitlines() if line.startswith("bench: ")]
            assert len(said) == 1, err
            assert code == EXIT_USAGE, err
        return code

    return run


def as_toml(table):
    """A table as TOML, values as JSON where the two are the same."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


FLAGS = st.sampled_from(
    [
        "-t",
        "-o",
        "--seeds",
        "--steps",
        "--set",
        "--cell-limit",
        "--time-limit",
        "--shard",
        "--scheduler",
        "--device",
        "--plugin",
        "--resume-from",
    ]
)
SUITE = ["run", "quick", "-t", "digits8_mlp", "-o", "adam", "--seeds", "0", "--dry-run", "--no-isolate"]


@few
@given(FLAGS, st.one_of(WORD, TEXT))
def test_values_of_flags(bench, flag, value):
    bench(*SUITE, f"{flag}={value}" if flag.startswith("--") else f"{flag}{value}")


COMMANDS = ["list", "info", "run", "report", "compare", "verify", "freeze", "publish", "cards"]


@many
@given(st.sampled_from(COMMANDS), WORD)
def test_names_of_things(bench, command, name):
    arguments = [name, "--dry-run"] if command == "run" else [name, name] if command == "compare" else [name]
    assert bench(command, *(["--label", "x"] if command == "publish" else []), *arguments) == EXIT_USAGE or command in (
        "list",
        "info",
    )


@many
@given(st.sampled_from(["adam.", "steps", "timing_blocks", "sgd.", ".", ""]), WORD, st.one_of(WORD, SCALAR.map(str)))
def test_values_of_set(bench, prefix, key, value):
    bench(*SUITE, "--set", f"{prefix}{key}={value}".replace("\0", ""))


SOUND_SUITE = {"kind": "train", "tasks": ["digits8_mlp"], "optimizers": ["adam"], "seeds": "0-1", "steps": 20}


@many
@given(st.sampled_from([*SOUND_SUITE, "timing_blocks", "controls", "description", "measurement", "colour"]), VALUE)
def test_tables_of_suites(key, value):
    try:
        build_suite("mine", SOUND_SUITE | {key: value})
    except UsageError as error:
        assert_one_line(error)


@many
@given(st.one_of(st.binary(max_size=60), TEXT.map(str.encode), st.just(as_toml(SOUND_SUITE).encode())))
def test_files_of_suites(bench, tmp_path, content):
    (tmp_path / "mine.toml").write_bytes(content)
    bench("run", "mine.toml", "--dry-run")


@many
@given(st.one_of(TEXT, st.sampled_from(["TASKS = {'a': 1}", "TASKS = 1", "OPTIMIZERS = {1: 2}", "1 / 0", "def f(:"])))
def test_files_of_plugins(tmp_path, content):
    path = tmp_path / "plugin.py"
    path.write_text("raise ValueError('no plug-in')\n" if "import" in content else content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of the made-up file
        with pytest.raises(UsageError) as caught:
            build_registry([str(path)]).problem("a")
    assert_one_line(caught.value)


SOUND_CONFIG = {"name": "mine", "design": "lean_mlp", "family": "imagenet16_cnn3", "objective": "train", "num_tasks": 2}
CONFIG_KEYS = st.sampled_from(
    [*SOUND_CONFIG, "stages", "estimator", "window", "seed", "ema", "sigma", "begin_from", "x"]
)


@many
@given(CONFIG_KEYS, VALUE.filter(lambda value: value is not None and value == value and not isinstance(value, dict)))
def test_configurations_of_outer_training(tmp_path, key, value):
    (tmp_path / "mine.toml").write_text(
        as_toml({name: field for name, field in SOUND_CONFIG.items() if name != key})
        + (f"{key} = {json.dumps(value)}\n" if key != "stages" else "")
        + ("[[stages]]\nnum_steps = 5\nouter_steps = 1\n" if key != "stages" else f"stages = {json.dumps(value)}\n"),
        encoding="utf-8",
    )
    try:
        load_config(str(tmp_path / "mine.toml"))
    except ValueError as error:  # and names that are not known, which are ValueErrors too
        assert_one_line(error)


DAMAGE = st.tuples(st.sampled_from(["cut", "flip", "insert"]), st.floats(0, 1), st.binary(min_size=1, max_size=8))


def damaged(content, damage):
    kind, where, new = damage
    at = min(int(where * len(content)), len(content) - 1)
    if kind == "cut":
        return content[:at]
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ (new[0] or 1)]) + content[at + 1 :]
    return content[:at] + new + content[at:]


def copied(source, folder):
    """A folder with what another holds and nothing else: examples of a test share the temporary folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return folder


@many
@given(DAMAGE)
def test_files_of_weights(bench, tmp_path, damage):
    sound = (weights.WEIGHTS_DIR / f"{learned.HEADLINE}.safetensors").read_bytes()
    (tmp_path / "mine.safetensors").write_bytes(damaged(sound, damage))
    bench("run", "quick", "-t", "digits8_mlp", "-o", "mine.safetensors", "--seeds", "0", "--dry-run")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Results of two cells."""
    root = tmp_path_factory.mktemp("stored")
    for seed in range(2):
        Store(root, "quick").put(*train_cell("t", "adam", seed, falling(0.01)))
    return root


@many
@given(DAMAGE, st.sampled_from(["json", "parquet"]))
def test_files_of_results_are_set_aside_and_the_others_stay(bench, stored, tmp_path, damage, suffix):
    folder = copied(stored, tmp_path / "results")
    victim, *others = sorted((folder / "quick" / "local").glob(f"*.{suffix}"))
    content = victim.read_bytes()
    victim.write_bytes(damaged(content, damage))
    altered = victim.read_bytes().rstrip() != content.rstrip()  # a record without its last line break is whole
    assert bench("report", "quick") == (EXIT_USAGE if altered else 0)
    kept = Store(folder, "quick")
    assert all(kept.is_complete(path.stem) for path in others)
    assert kept.is_complete(victim.stem) == (not altered)
    assert victim.exists() == (not altered)
    assert victim.with_name(f"{victim.name}.damaged").exists() == altered


@many
@given(DAMAGE, st.sampled_from(["cells.parquet", "curves.parquet"]))
def test_files_of_published_results(published, tmp_path, damage, name):
    """They are refused in one line, or hold the same rows still: some bytes of such a file say nothing."""
    folder = copied(published, tmp_path / "results")
    path = folder / "quick" / "machine" / name
    path.write_bytes(damaged(path.read_bytes(), damage))
    try:
        found = Store(folder, "quick", "machine").read()
    except UsageError as error:
        assert_one_line(error)
    else:
        for one, other in zip(found[:2], Store(published, "quick", "machine").read()[:2], strict=True):
            pd.testing.assert_frame_equal(one, other)


def test_a_report_of_damaged_published_results_is_one_line(bench, published, tmp_path):
    path = copied(published, tmp_path / "results") / "quick" / "machine" / "cells.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert bench("report", "quick", "--label", "machine") == EXIT_USAGE


@pytest.fixture(scope="module")
def published(stored, tmp_path_factory):
    """The same, packed."""
    from bench.store.published import publish

    root = tmp_path_factory.mktemp("published")
    publish(root, "quick", "machine", Store(stored, "quick").read())
    return root


@many
@given(st.one_of(DAMAGE, TEXT, VALUE.map(lambda value: json.dumps(value))), st.sampled_from(["tuned", "targets"]))
def test_files_of_tuned_values_and_targets(bench, tmp_path, content, kind):
    shipped = Path(targets.SHIPPED_DIR if kind == "targets" else Path(cli.__file__).parents[2] / "baselines" / "tuned")
    name = "digits8_mlp/500.json" if kind == "targets" else "digits8_mlp/500/adam.json"
    sound = (shipped / name).read_bytes()
    path = tmp_path / "results" / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else damaged(sound, content))
    bench("run", "quick", "-t", "digits8_mlp", "-o", "adam", "-o", "learned", "--seeds", "0", "--dry-run")


@many
@given(DAMAGE)
def test_files_of_the_cache(bench, tmp_path, cached, damage):
    folder = copied(cached, tmp_path / "cache")
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(damaged(path.read_bytes(), damage))
    bench("run", "quick", "-t", "mnist14_mlp", "-o", "adam", "--seeds", "0", "--steps", "2", "--dry-run")


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A cache of the right name that holds nothing of use."""
    from safetensors.numpy import save

    root = tmp_path_factory.mktemp("cached")
    (root / "mnist28-3.0.1-0123456789abcdef.safetensors").write_bytes(save({}, {"version": "3.0.1"}))
    return root


PAGE = Path(cli.__file__).parents[1] / "BAD_INPUT.md"
EXAMPLES = re.findall(r"^\|[^|]*\| `bench ([^`]*)` \| (`+) ?(.*?) ?\2 \|$", PAGE.read_text(), re.MULTILINE)
FILES = {
    "broken.toml": "tasks = 3\n",
    "cluster.toml": 'queue_system = "slurm"\nwaltime = "01:00:00"\n',
    "keys.toml": 'colour = "red"\n',
    "broken.py": "1 / 0\n",
    "empty.py": "x = 1\n",
    "huge.toml": 'tasks = ["digits8_mlp"]\noptimizers = ["adam"]\nseeds = "0"\nsteps = 10000000000\n',
    "several.py": "import neighbour\n",
    "neighbour.py": "import absent\n",
    "wild.py": "import optax\nfrom baselines import Baseline, LogUniform\n"
    "row = Baseline(lambda h, n: optax.sgd(h['r']), {'r': LogUniform(1e25, 1e30)}, {'r': 1e25}, '')\n"
    "OPTIMIZERS = {'wild': row}\n",
    "other/mnist/3.0.1/dataset_info.json": '{"fileFormat": "tfrecord", "splits": []}',
    "quits.py": "raise SystemExit(0)\n",
    "dies.py": "import os; os._exit(0)\n",
    "path.py": "OPTIMIZERS = {'../x': 1}\n",
    "broken.safetensors": "no weights",
    "broken/celo/theta.safetensors": "no weights",
    "results/tuned/digits8_mlp/500/sgd_momentum.json": "{",
}


def test_the_page_has_examples():
    assert len(EXAMPLES) >= 20
    assert len(EXAMPLES) == PAGE.read_text().count("| `bench ")


PLUGIN_FILE = re.compile(r"\.py\b")  # is imported in a process of its own, wherever it is named


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param(command, words, marks=pytest.mark.slow if PLUGIN_FILE.search(command) else ())
        for command, _, words in EXAMPLES
    ],
)
def test_an_example_of_the_page_says_what_the_page_says(tmp_path, monkeypatch, capsys, command, words):
    monkeypatch.setattr("bench.engines.cluster.CONNECT_SEC", 0.5)
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for name in [name for name in os.environ if name.startswith("BENCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as done:
        cli.main(command.split())
    err = capsys.readouterr().err
    assert done.value.code == EXIT_USAGE, err
    assert err.strip().splitlines()[-1].startswith(f"bench: {words}")
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before
