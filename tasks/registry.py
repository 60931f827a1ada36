"""The registry of tasks: a literal table, one row for each family.

Target family: Metz et al. (arXiv 1810.10180): 10 classes drawn at random from ImageNet at 32x32, a CNN of three
convolutions. Its classes are split once into 80 for outer-training, 20 for outer-validation (choosing theta, designs
and hyperparameters, and tuning the baselines) and 20 for evaluation only.

    imagenet32_cnn3/3                     the fourth of ten fixed evaluation tasks
    imagenet32_cnn3/outer_validation/0    the first fixed draw from the outer-validation classes; 0 and 1 tune baselines
    mnist14_mlp                           a family of one task
"""

import dataclasses
import functools
import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tasks import data
from tasks.images import (
    CIFAR_NORMALIZE,
    DIGITS_NORMALIZE,
    IMAGENET_NORMALIZE,
    MNIST_NORMALIZE,
    NUM_CLASSES,
    shrink_images,
    take_class_images,
    take_labelled_images,
    take_marked_images,
)
from tasks.models import CNN, MLP, ResNet
from tasks.tables import UnknownNameError
from tasks.task import (
    Cfg,
    Key,
    ModuleInit,
    ModuleLoss,
    Problem,
    Split,
    Task,
    TaskFamily,
    named_key,
    num_params,
    take_images,
)

NUM_EVALUATION_TASKS = 10
NUM_OUTER_VALIDATION_TASKS = 5
IMAGENET_SIZES = (NUM_CLASSES * 400, NUM_CLASSES * 100, NUM_CLASSES * 50)


@dataclasses.dataclass(frozen=True)
class FamilyRow:
    """A row of the registry.

    Attributes:
      description: one line for `bench list tasks`.
      problem: what the family's tasks share.
      data_set: name in `tasks.data.DATA_SETS`.
      shrink: factor by which images are averaged down on loading.
      pools: class pools that tasks are drawn from; none for a family of a single task.
    """

    description: str
    problem: Problem
    data_set: str
    shrink: int = 1
    pools: tuple[str, ...] = ()

    def task_names(self) -> list[str]:
        """Names of the family's fixed tasks, evaluation first."""
        name = self.problem.family
        if not self.pools:
            return [name]
        evaluation = [f"{name}/{k}" for k in range(NUM_EVALUATION_TASKS)]
        return evaluation + [f"{name}/outer_validation/{k}" for k in range(NUM_OUTER_VALIDATION_TASKS)]


def sample_classes(key: Key, pool: str) -> Cfg:
    """Rows (10,) int32 of ten different classes of a pool."""
    rows = data.POOLS[pool]
    permuted = jax.random.permutation(key, jnp.arange(rows.start, rows.stop, dtype=jnp.int32))
    return permuted[:NUM_CLASSES]


def _problem(family, module, image_shape, take, normalize, sizes, horizon, batch_size=32) -> Problem:
    return Problem(
        family=family,
        init=ModuleInit(module, image_shape),
        loss=ModuleLoss(module),
        take=functools.partial(take, normalize),
        sizes=sizes,
        horizon=horizon,
        batch_size=batch_size,
        chance_loss=float(np.log(NUM_CLASSES)),
    )


def _net(name: str, size: int, module, batch_size: int, horizon: int, description: str) -> FamilyRow:
    problem = _problem(
        name, module, (size, size, 3), take_class_images, IMAGENET_NORMALIZE, IMAGENET_SIZES, horizon, batch_size
    )
    return FamilyRow(description, problem, "imagenet32", 32 // size, tuple(data.POOLS))


def _marked(row: FamilyRow, share: float) -> FamilyRow:
    """The family with marked images."""
    return _with_images(row, "marked", take_marked_images, share, "a mark of the class on each image")


def _labelled(row: FamilyRow, share: float) -> FamilyRow:
    """The family whose classes are those of marks on images of any class, ten times as many examples."""
    said = "images of any class, the class is that of a mark on them"
    return _with_images(row, "labelled", take_labelled_images, share, said, NUM_CLASSES)


def _with_images(row: FamilyRow, kind: str, take, share: float, said: str, times: int = 1) -> FamilyRow:
    problem = row.problem
    problem = dataclasses.replace(
        problem,
        family=f"{problem.family}_{kind}",
        take=functools.partial(take, share, IMAGENET_NORMALIZE),
        sizes=tuple(times * size for size in problem.sizes),
    )
    return dataclasses.replace(row, problem=problem, description=f"{row.description}; {said}")


def _imagenet(name: str, size: int, channels: int, horizon: int, description: str) -> FamilyRow:
    return _net(name, size, CNN((channels,) * 3, (2, 2, 1), NUM_CLASSES), 32, horizon, description)


def _mnist(name: str, module, size: int, description: str, horizon: int = 1000, batch_size: int = 32) -> FamilyRow:
    sizes = (50_000, 10_000, 10_000)
    problem = _problem(name, module, (size, size, 1), take_images, MNIST_NORMALIZE, sizes, horizon, batch_size)
    return FamilyRow(description, problem, "mnist28", 28 // size)


def _cifar(name: str, module, description: str) -> FamilyRow:
    sizes = (45_000, 5_000, 10_000)
    problem = _problem(name, module, (32, 32, 3), take_images, CIFAR_NORMALIZE, sizes, 1000)
    return FamilyRow(description, problem, "cifar10")


def _digits(name: str, module, description: str, size: int = 8) -> FamilyRow:
    problem = _problem(name, module, (size, size, 1), take_images, DIGITS_NORMALIZE, (1197, 300, 300), 500)
    return FamilyRow(description, problem, "digits8", 8 // size)


_CNN3 = CNN((32, 32, 32), (2, 2, 1), NUM_CLASSES)
_CNN6 = CNN((32,) * 6, (2, 2, 2, 1, 1, 1), NUM_CLASSES)
_MLP_WIDE = MLP((512, 512), NUM_CLASSES)

_ROWS = [
    _imagenet(
        "imagenet32_cnn3", 32, 32, 2000, "the paper's: 10 ImageNet classes at 32x32, three convolutions of 32 channels"
    ),
    _imagenet("imagenet16_cnn3", 16, 16, 200, "the same at 16x16 with 16 channels: CPU-sized, used for outer-training"),
    _imagenet("imagenet8_cnn3", 8, 8, 200, "the same at 8x8 with 8 channels: for studies"),
    _mnist("mnist28_cnn3", _CNN3, 28, "out of distribution: the paper's CNN on MNIST"),
    _mnist("mnist14_cnn3", _CNN3, 14, "out of distribution: the paper's CNN on MNIST at 14x14"),
    _mnist("mnist28_cnn6", _CNN6, 28, "out of distribution: six convolutions on MNIST"),
    # As many examples as 1,000 steps of 32 see.
    _mnist("mnist28_cnn3_batch128", _CNN3, 28, "out of distribution: batches of 128", horizon=250, batch_size=128),
    _mnist("mnist28_mlp", MLP((128,), NUM_CLASSES), 28, "out of distribution: one hidden layer of 128 on MNIST"),
    _mnist(
        "mnist14_mlp", MLP((128,), NUM_CLASSES), 14, "out of distribution: one hidden layer of 128 on MNIST at 14x14"
    ),
    # A fifth of the steps: a Muon step costs tens of Adam's here, and 200 take training loss near a tenth of chance.
    _mnist("mnist28_mlp_wide", _MLP_WIDE, 28, "out of distribution: two hidden layers of 512", horizon=200),
    _cifar("cifar10_cnn3", _CNN3, "out of distribution: the paper's CNN on the ten classes of CIFAR-10"),
    _digits(
        "digits8_cnn3", CNN((16, 16, 16), (2, 2, 1), NUM_CLASSES), "embedded: handwritten digits, three convolutions"
    ),
    _digits("digits8_mlp", MLP((64,), NUM_CLASSES), "embedded: handwritten digits, one hidden layer of 64"),
    # 118 parameters: thousands of unrolls of a thousand steps take minutes.
    _digits("digits4_mlp", MLP((4,), NUM_CLASSES), "embedded: digits at 4x4, one hidden layer of 4, for studies", 4),
]
FAMILIES: dict[str, FamilyRow] = {row.problem.family: row for row in _ROWS}


# For outer-training alone: no task of theirs is fixed. Widths, depths, batch sizes and horizons were drawn at random.
_OUTER_ROWS = [
    _net("imagenet16_mlp_128", 16, MLP((128,), NUM_CLASSES), 32, 1000, "one hidden layer of 128"),
    _net("imagenet16_mlp_256_256", 16, MLP((256, 256), NUM_CLASSES), 64, 300, "two hidden layers of 256"),
    _net("imagenet8_mlp_48_48_48", 8, MLP((48, 48, 48), NUM_CLASSES), 16, 2000, "three hidden layers of 48"),
    _net("imagenet16_mlp_512_384", 16, MLP((512, 384), NUM_CLASSES), 32, 200, "two hidden layers, 512 and 384"),
    _net("imagenet8_cnn_32x3", 8, CNN((32,) * 3, (2, 1, 1), NUM_CLASSES), 128, 300, "three convolutions of 32"),
    _net("imagenet16_cnn_16x3", 16, CNN((16,) * 3, (2, 2, 1), NUM_CLASSES), 32, 2000, "three convolutions of 16"),
    _net("imagenet16_cnn_24x5", 16, CNN((24,) * 5, (2, 1, 2, 1, 1), NUM_CLASSES), 64, 300, "five convolutions of 24"),
    _net("imagenet16_resnet", 16, ResNet(16, (2, 2), NUM_CLASSES), 32, 1000, "a stem and two residual blocks of 16"),
    _net("imagenet16_mlp_96_96_96", 16, MLP((96,) * 3, NUM_CLASSES), 32, 700, "three hidden layers of 96"),
    _net("imagenet8_mlp_160", 8, MLP((160,), NUM_CLASSES), 64, 500, "one hidden layer of 160"),
]
_NETS = {row.problem.family: row for row in _OUTER_ROWS}
_JUDGED = ("imagenet16_resnet", "imagenet16_mlp_96_96_96")
_DENSE = ("imagenet16_mlp_128", "imagenet16_mlp_256_256", "imagenet8_mlp_48_48_48", "imagenet16_mlp_512_384")
_DENSE_JUDGED = ("imagenet16_mlp_96_96_96", "imagenet8_mlp_160")
_MARKED = (*_DENSE, *_DENSE_JUDGED, "imagenet8_cnn_32x3", "imagenet16_resnet")
OUTER_FAMILIES: dict[str, FamilyRow] = (
    _NETS
    | {f"{name}_marked": _marked(_NETS[name], 0.5) for name in _MARKED}
    | {f"{name}_labelled": _labelled(_NETS[name], 0.5) for name in (*_DENSE, *_DENSE_JUDGED)}
)
_KINDS = ("", "_marked", "_labelled")
# What outer-training draws from, one family an outer step, and what theta is chosen on: architectures it never saw, and
# the paper's CNN at full size, an unroll of which costs as much as those of all others.
# On photographs alone theta learns to hold weights small, since all nets overfit. Marked images are easy to tell apart,
# and nets overfit on them too; on labelled ones they do not. A net that had one kind alone would give it away by shape.
MIXTURES: dict[str, tuple[str, ...]] = {
    "imagenet_small_nets": (
        *("imagenet16_mlp_128", "imagenet16_mlp_256_256", "imagenet8_mlp_48_48_48"),
        *("imagenet16_cnn_16x3", "imagenet16_cnn_24x5"),
        *("imagenet16_mlp_128_marked", "imagenet16_mlp_512_384_marked", "imagenet8_cnn_32x3_marked"),
    ),
    "imagenet_held_out_nets": (*_JUDGED, *(f"{name}_marked" for name in _JUDGED), "imagenet32_cnn3"),
    "imagenet_dense_nets": tuple(f"{name}{kind}" for name in _DENSE for kind in _KINDS),
    "imagenet_held_out_dense_nets": tuple(f"{name}{kind}" for name in _DENSE_JUDGED for kind in _KINDS),
}


def members(name: str) -> tuple[FamilyRow, ...]:
    """The families of a mixture, or the one of this name.

    Raises:
      UnknownNameError: there is neither.
    """
    if name not in MIXTURES and name not in FAMILIES | OUTER_FAMILIES:
        raise UnknownNameError("task family", name, [*FAMILIES, *OUTER_FAMILIES, *MIXTURES])
    return tuple(family_row(member) for member in MIXTURES.get(name, (name,)))


def classes_in_order(family: str, split: Split) -> np.ndarray | None:
    """The class of every example of a split, (size,); None where the examples are not ordered by class.

    Families with pools of classes are ordered by class; other data sets have the order of their files.
    """
    row = (FAMILIES | OUTER_FAMILIES).get(family)
    if row is None or not row.pools:
        return None
    size = row.problem.size(split)
    return np.arange(size) // (size // NUM_CLASSES)


def task_names() -> list[str]:
    """Names of all fixed tasks."""
    return [name for row in FAMILIES.values() for name in row.task_names()]


def family_row(name: str) -> FamilyRow:
    """The row of a family, or of the family that a task belongs to.

    Raises:
      UnknownNameError: with the nearest known names.
    """
    family_name = name.split("/")[0]
    if name in OUTER_FAMILIES:
        return OUTER_FAMILIES[name]
    if family_name not in FAMILIES:
        raise UnknownNameError("task", name, [*FAMILIES, *task_names()])
    row = FAMILIES[family_name]
    if name != family_name and name not in row.task_names():
        raise UnknownNameError("task", name, row.task_names())
    return row


def task_cfg(name: str) -> Cfg:
    """The cfg of a fixed task; the same classes at every image size, since the key names the data set."""
    row = family_row(name)
    if not row.pools:
        return ()
    _, *rest = name.split("/")
    if not rest:
        raise ValueError(f"{name} is a family of tasks; name one of them, for instance {row.task_names()[0]}")
    pool = "evaluation" if len(rest) == 1 else rest[0]
    return sample_classes(named_key(row.data_set, pool, rest[-1]), pool)


def load_family(name: str, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> TaskFamily:
    """A family with its data on the default device.

    Args:
      name: a name of `FAMILIES`.
      data_dir: where TFDS data lies; None for TFDS_DATA_DIR.
      cache_dir: where decoded arrays are kept; None for BENCH_CACHE_DIR.

    Raises:
      UnknownNameError: no such family.
      tasks.data.MissingDataError: its data is neither cached nor found.
    """
    row = family_row(name)
    arrays = _loaded(row.data_set, row.shrink, data_dir, cache_dir)
    sample = sample_classes if row.pools else (lambda key, pool: ())
    return TaskFamily(row.problem, arrays, sample, row.pools)


def load(name: str, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> Task:
    """A fixed task by name, for instance "imagenet32_cnn3/0". Arguments and errors as `load_family`."""
    cfg = task_cfg(name)
    return load_family(name.split("/")[0], data_dir=data_dir, cache_dir=cache_dir).task(cfg)


def data_facts(name: str, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> dict[str, str]:
    """Name, version, source, content digest and note of the data of a task or mixture; loads nothing onto a device.

    Arguments and errors as `load_family`.
    """
    row = members(name)[0] if name in MIXTURES else family_row(name)
    return dict(_facts(row.data_set, data_dir, cache_dir))


@functools.cache
def _facts(data_set: str, data_dir: Path | None, cache_dir: Path | None) -> dict[str, str]:
    return data.facts(data_set, data_dir=data_dir, cache_dir=cache_dir)


@functools.lru_cache(maxsize=4)
def _loaded(data_set: str, shrink: int, data_dir: Path | None, cache_dir: Path | None) -> dict[str, Array]:
    source = data.load(data_set, data_dir=data_dir, cache_dir=cache_dir)
    suffixes = ("_images",) if f"{data.SPLITS[0]}_labels" not in source.arrays else ("_images", "_labels")
    kept = {f"{split}{suffix}" for split in data.SPLITS for suffix in suffixes}
    return {
        key: jnp.asarray(shrink_images(source.arrays[key], shrink) if key.endswith("_images") else source.arrays[key])
        for key in sorted(kept)
    }


def task_digest(name: str) -> str:
    """Digest of a task's definition: problem, data set and version, cfg. Stable across machines and processes."""
    row = family_row(name)
    source = data.DATA_SETS[row.data_set]
    cfg = [] if not row.pools or "/" not in name else jax.device_get(task_cfg(name)).tolist()
    problem = row.problem
    parts = (
        name,
        row.data_set,
        source.version,
        row.shrink,
        describe_module(problem.init),
        repr(getattr(problem.take, "args", ())),
        problem.sizes,
        problem.batch_size,
        cfg,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def describe_module(init) -> str:
    """A flax module's class and hyperparameters, without the convolution, which only changes its speed."""
    if not isinstance(init, ModuleInit):
        return type(init).__name__
    module = init.module
    fields = {
        f.name: getattr(module, f.name) for f in dataclasses.fields(module) if f.name not in ("conv", "parent", "name")
    }
    return f"{type(module).__name__}({fields}) on {init.image_shape}"


def describe(name: str) -> dict:
    """What `bench list tasks` and `bench info` print of a task or family, without loading its data."""
    row = family_row(name)
    return describe_problem(name, row.problem, row.description, row.data_set, task_digest(name))


def describe_problem(name: str, problem: Problem, description: str, data_set: str, digest: str) -> dict:
    """The description of any task, also of a plug-in, from its problem and facts of its data."""
    return {
        "name": name,
        "family": problem.family,
        "description": description,
        "num_params": num_params(problem),
        "horizon": problem.horizon,
        "batch_size": problem.batch_size,
        "chance_loss": round(problem.chance_loss, 4),
        "examples": dict(zip(("train", "validation", "test"), problem.sizes, strict=True)),
        "data_set": data_set,
        "digest": digest,
    }
