"""Outer-training over processes: several on this machine, or those that a launcher such as Slurm's `srun` started.

Each process calls `bench.outer.run.outer_train`, and all of them make up one run (`learned.outer.processes`). Here is
how they come to know of each other, and how processes of this machine are started and ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.errors import UsageError, is_input_error
from bench.folders import Folders
from bench.processes import Child, EndedError, first_message, speaking

LOOPBACK = "127.0.0.1"
JOIN_SEC = 120  # for all processes to come
SHUTDOWN_SEC = 10  # for all processes to be done
DONE = "died, by exit code 0"  # as a process ends that is not the first, and says nothing
TURN_SEC = 0.2  # between looks at whether a process has ended
# What `srun` tells each process. The script of a job has no step: what it starts outside `srun` is one process.
STEP_TASKS, NEEDED = "SLURM_STEP_NUM_TASKS", ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")


def number_launched(environment: Mapping[str, str] = os.environ) -> int:
    """Number of processes that `srun` started of which this is one; 1 without it."""
    tasks = environment.get(STEP_TASKS, "1")
    return int(tasks) if tasks.isdecimal() and all(name in environment for name in NEEDED) else 1


def join_launched(number: int, devices: int, device: str | None) -> None:
    """Joins the processes that `srun` started, each with this number of devices.

    Args:
      number: processes that the user expects; 1 for as many as there are.
      devices: devices of each; on a CPU, host devices.
      device: "cpu", "gpu" or None.

    Raises:
      UsageError: there is another number of processes, or the device is one of several.
    """
    there = number_launched()
    if number not in (1, there):
        raise UsageError(f"--processes {number}: srun started {there} processes; leave --processes out")
    _join(devices, device, cluster_detection_method="slurm")


def _join(devices: int, device: str | None, **how: Any) -> None:
    """Makes this process one of several; before anything is computed."""
    import jax

    if device and ":" in device:
        raise UsageError(f"--device {device} is one device, and processes take all that they see; expected cpu or gpu")
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    jax.distributed.initialize(**how, initialization_timeout=JOIN_SEC, shutdown_timeout_seconds=SHUTDOWN_SEC)


def run_processes(
    config: Any,
    number: int,
    *,
    folders: Folders,
    device: str | None,
    log: Callable[[str], None],
    advance: Callable[..., None],
    **options: Any,
) -> dict[str, Any]:
    """Outer-trains in processes of this machine that end together.

    Args:
      config: name or path of a configuration.
      number: number of processes.
      folders: where results and data lie.
      device: "cpu", "gpu" or None.
      log: as of `bench.outer.run.outer_train`; so is `advance`.
      advance: called after every outer step.
      **options: of `bench.outer.run.outer_train`, JSON-ready.

    Returns:
      "weights", the path, and "facts" of the run.

    Raises:
      UsageError: as `bench.outer.run.outer_train`, or a process died; what was finished is kept.
    """
    if not isinstance(config, str):
        raise UsageError("expected the name or path of a configuration, which processes read, got a configuration")
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        coordinator = f"{LOOPBACK}:{free.getsockname()[1]}"
    names = ("results_dir", "reports_dir", "cache_dir", "data_dir", "weights_dir")
    places = {name: str(getattr(folders, name)) for name in names}
    work = {"config": config, "folders": places, "device": device, "coordinator": coordinator, "number": number}
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(Child("bench.outer.processes", {**work, "process": i, "options": options}))
            for i in range(number)
        ]
        while True:
            for i, child in enumerate(children):
                try:
                    message = child.receive(TURN_SEC if i == 0 else 0.0) or {}
                except EndedError as ended:
                    if i > 0 and str(ended) == DONE:
                        continue
                    raise UsageError(_ended(children)) from None
                if "error" in message:
                    raise UsageError(message["error"])
                if "log" in message:
                    log(message["log"])
                if "advance" in message:
                    advance(*message["advance"])
                if "facts" in message:
                    return message["facts"]


def _ended(children: list[Child]) -> str:
    """Which process ended first, as far as can be told: others end of it, by an error of their own."""
    time.sleep(TURN_SEC)
    found = {}
    for i, child in enumerate(children):
        try:
            while child.receive(0.0):
                pass
        except EndedError as ended:
            found[i] = str(ended)
    by_signal = {i: text for i, text in found.items() if "signal" in text and "SIGABRT" not in text}
    i, text = next(iter((by_signal or found).items()))
    return f"process {i} of {len(children)} {text}; what was finished is kept: go on with --resume"


def _work() -> None:
    """What each process of `run_processes` runs."""
    from pathlib import Path

    from bench.outer.run import outer_train
    from learned.outer.processes import is_first

    what = first_message()
    with speaking() as say:
        try:
            devices = what["options"]["num_devices"]
            _join(
                devices,
                what["device"],
                coordinator_address=what["coordinator"],
                num_processes=what["number"],
                process_id=what["process"],
            )
            first = is_first()
            done = outer_train(
                what["config"],
                folders=Folders(**{name: Path(place) for name, place in what["folders"].items()}),
                log=lambda line: say(log=line) if first else None,
                advance=lambda share, line: say(advance=[share, line]) if first else None,
                **what["options"],
            )
            if first:
                say(facts={"weights": str(done.weights), "facts": done.facts})
        except Exception as error:
            if not is_input_error(error):
                raise
            say(error=str(error))


if __name__ == "__main__":
    _work()
