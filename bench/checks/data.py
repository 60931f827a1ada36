"""Decodes data sets into the cache, and keeps weights there: `bench prepare`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.checks.elsewhere import prepare_weights
from bench.errors import nearest
from bench.folders import Folders
from learned.elsewhere import ELSEWHERE
from tasks import data


def prepare_data(
    names: Sequence[str] = (),
    *,
    force: bool = False,
    folders: Folders | None = None,
    log: Callable[[str], None] = lambda line: None,
    advance: Callable[..., None] = lambda share, line: None,
) -> dict[str, Path]:
    """Decodes TFDS data once into cached array files, which also work where TFDS is not installed.

    Args:
      names: names of data sets; by default all that come from TFDS. Of a row of `learned.elsewhere.ELSEWHERE`, whose
        weights are another's, it is said where they come from, and they are copied if the user has them.
      force: whether to decode data again that is cached.
      folders: where data lies and is cached; by default those of the command line.
      log: called with a line for every data set.
      advance: called with the fraction of the work done since the last call, and the name of the data set.

    Returns:
      Name -> cache file.

    Raises:
      UsageError: there is no such data set, or weights are not in the folder of weights.
      tasks.data.MissingDataError: its data is not in the TFDS folder.
      tasks.data.CacheError: the cache cannot be written.
    """
    folders = folders or Folders()
    names = names or [name for name, row in data.DATA_SETS.items() if row.builder is not None]
    for name in names:
        if name not in data.DATA_SETS and name not in ELSEWHERE:
            raise nearest("data set", name, [*data.DATA_SETS, *ELSEWHERE])
    paths = {}
    for name in names:
        seen = 0.0
        if name in ELSEWHERE:
            paths[name] = prepare_weights(name, folders=folders, log=log)
            advance(1 / len(names), name)
            continue

        def progress(done: int, total: int, name: str = name) -> None:
            nonlocal seen
            share = done / max(total, 1)
            advance((share - seen) / len(names), name)
            seen = share

        paths[name] = data.prepare(
            name, data_dir=folders.data_dir, cache_dir=folders.cache_dir, force=force, progress=progress
        )
        advance((1.0 - seen) / len(names), name)
        log(f"{name}: {paths[name]}")
    return paths
