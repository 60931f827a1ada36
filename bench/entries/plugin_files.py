"""Imports plug-in files, and says where in them an error arose.

A plug-in is a file of the user's, with neighbours that it may import. What results depend on is the source of all of
them, and the versions of the packages that they import.
"""

import ast
import contextlib
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

from bench.errors import UsageError

_HERE = Path(__file__).resolve().parents[2]
_OURS = tuple(_HERE / name for name in ("bench", "tasks", "baselines", "learned"))
_STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_IN_RECORDS = frozenset(("bench", "tasks", "baselines", "learned", "jax", "jaxlib", "optax", "flax", "numpy"))
_brought_in: set[str] = set()  # modules that plug-ins imported: the next import reads them anew


def import_file(file: str) -> types.ModuleType:
    """Executes a plug-in file as a module; what it prints goes to standard error.

    Its folder is on `sys.path`, so that it can import its neighbours wherever the command runs. While it is executed
    that folder is the first, as it is for a script.

    Raises:
      UsageError: it is no Python file, or raises; the message has the line of the plug-in.
    """
    path = plugin_path(file)
    folder, name = str(path.parent), f"bench_plugin_{hashlib.sha256(bytes(path)).hexdigest()[:8]}_{path.stem}"
    for neighbour in _brought_in:
        sys.modules.pop(neighbour, None)
    before, writes_bytecode = set(sys.modules), sys.dont_write_bytecode
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # where dataclasses look up postponed annotations
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True  # bytecode of a file that is edited within the second would run in its place
    try:
        with contextlib.redirect_stdout(sys.stderr):
            # JAX ends the process at the name of a file that is not UTF-8, when it notes where a function stands.
            shown = module.__file__.encode("utf-8", "backslashreplace").decode()
            exec(compile(path.read_bytes(), shown, "exec", dont_inherit=True), vars(module))
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except BaseException as error:
        del sys.modules[name]
        raise UsageError(f"plug-in {file} cannot be imported: {failure(error)[1]}") from None
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # for imports within functions
        _brought_in.update(n for n in set(sys.modules) - before if _is_users(getattr(sys.modules[n], "__file__", None)))
    return module


def plugin_path(file: str) -> Path:
    """The absolute path of a plug-in.

    Raises:
      UsageError: it is no Python file.
    """
    path = Path(os.path.expanduser(file)).absolute()  # a home that is not there stays as it is written
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"a plug-in is a Python file, got {file!r}")
    return path


def source_digest(path: Path, package: str = "") -> str:
    """Digest of a source file, of the user's files that it imports, and of the versions of packages that these import.

    `package` is what its relative imports begin from; a plug-in named by its path has none.

    It follows the statements `import`, so it does not depend on what a process has imported before. Versions that every
    record has are left out.
    """
    digest = hashlib.sha256(path.read_bytes())
    packages: set[str] = set()
    known, left = {path.resolve()}, [(path, package)]
    while left:
        file, within = left.pop()
        for name in sorted(_imported(file, within)):
            origin = _origin(name, path.parent)
            if origin is None:
                packages.add(name.partition(".")[0])
            elif origin not in known:
                known.add(origin)
                digest.update(name.encode() + b"\0" + origin.read_bytes())
                left.append((origin, name if origin.name == "__init__.py" else name.rpartition(".")[0]))
    for package in sorted(packages - _IN_RECORDS - sys.stdlib_module_names):
        digest.update(f"{package}=={_version(package)}".encode())
    return digest.hexdigest()[:16]


def _imported(path: Path, package: str) -> Iterator[str]:
    """Names of modules, and of what may be modules, that the statements `import` of a file name."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # it cannot be imported
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:  # beyond the package: whoever runs the statement may catch it
                continue
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _origin(name: str, folder: Path) -> Path | None:
    """The user's file that holds a module, beside the plug-in first; None for an installed one, or none at all."""
    beside = folder.joinpath(*name.split("."))
    for path in (beside / "__init__.py", beside.with_name(f"{beside.name}.py")):
        if path.is_file() and _is_users(str(path)):
            return path.resolve()
    if name.partition(".")[0] in _IN_RECORDS:
        return None
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = _spec(name)
        if spec and spec.has_location and spec.origin and _is_users(spec.origin):
            return Path(spec.origin).resolve()
    return None


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module lies, found without an import of the package that it is in, which may do or raise anything."""
    package = name.rpartition(".")[0]
    if not package:
        return importlib.util.find_spec(name)
    within = _spec(package)
    if within is None or within.submodule_search_locations is None:
        return None
    return importlib.machinery.PathFinder.find_spec(name, within.submodule_search_locations)


def _is_users(file: str | None) -> bool:
    """Whether a file is source of the user's: not installed, and not ours."""
    if not file or not file.endswith(".py"):
        return False
    path = Path(file).resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(folder) for folder in (*_OURS, *_STANDARD))


def _version(package: str) -> str:
    """The version of the distribution that has an importable package; empty if there is none."""
    names = [package, *importlib.metadata.packages_distributions().get(package, ())]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return ""


def failure(error: BaseException) -> tuple[str, str]:
    """(status, reason) of an exception that a task or optimizer raised.

    The reason is one line, with the line of the user's file in which it arose, where there is one.
    """
    try:
        message = str(error)
    except Exception:
        message = "its message cannot be read"
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()] or [""]
    text = lines[0]
    if text.endswith("Traceback (most recent call last):"):  # of a host callback: its exception is the last line
        own = (line for line in reversed(message.splitlines()) if line.strip() and not line.startswith(" "))
        text = next(own, text)
    elif text.endswith(":"):
        text = " ".join(lines)
    status = "out_of_memory" if "RESOURCE_EXHAUSTED" in message or isinstance(error, MemoryError) else "error"
    reason = f"{type(error).__name__}: {text[:300]}".removesuffix(": ")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    if frames and not isinstance(error, SyntaxError):  # which names its line itself
        reason += f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return status, reason
