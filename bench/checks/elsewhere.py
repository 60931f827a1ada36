"""The weights of published learned optimizers of others: where they come from, and a copy of them in the cache."""

from collections.abc import Callable
from pathlib import Path

from bench.errors import usage_errors
from bench.folders import Folders
from bench.store.files import write_atomically
from learned import elsewhere


def prepare_weights(name: str, *, folders: Folders, log: Callable[[str], None] = lambda line: None) -> Path:
    """Says where weights come from, and copies them with their licence into the cache where the user has them.

    Args:
      name: row of `learned.elsewhere.ELSEWHERE`.
      folders: where weights lie and are cached.
      log: called with every line.

    Returns:
      The path in the cache, where they are found without the folder.

    Raises:
      UsageError: they are not there, or the file holds no such weights.
    """
    for line in elsewhere.origin(name):
        log(line)
    source = elsewhere.path_of(name, folders.weights_dir)
    kept = elsewhere.path_of(name, folders.cache_dir / elsewhere.CACHED)
    with usage_errors():
        theta = elsewhere.read(name, folders.weights_dir)
        if source.resolve() != kept.resolve():
            kept.parent.mkdir(parents=True, exist_ok=True)
            for path in (source, source.with_name(elsewhere.LICENCE_FILE)):
                if path.is_file():
                    write_atomically(kept.with_name(path.name), path.read_bytes())
    others = "" if elsewhere.is_published(name, theta) else ", other weights than the published ones"
    log(f"{name}: {kept}{others}")
    return kept
