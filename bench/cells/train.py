"""Cells of kind "train": one optimizer trains one task, with one seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from bench.cells.base import Advance, Cell, Lineup, Outcome, Session, TaskConfig
from bench.entries import controls
from bench.entries.entrants import Entrant
from bench.entries.plugins import BrokenTask, Registry
from bench.store.record import Status
from bench.suites.members import suite_entrants
from bench.suites.suite import Suite
from bench.training.programs import NUM_EVALUATIONS, run_key
from bench.training.timed_run import run_cell


@dataclasses.dataclass(frozen=True)
class TrainConfig(TaskConfig):
    """The configuration of a training run.

    Attributes:
      optimizer: name.
      role: "hand-designed", "learned" or "control".
      hyperparameters: hyperparameters, or the design and the digest of the weights of a learned optimizer.
      tuned_horizon: inner steps that they were tuned at; None for defaults and learned optimizers.
      seed: seed of initialization and data order.
      num_evaluations: points of the evaluation grid.
    """

    optimizer: str
    role: str
    hyperparameters: Mapping[str, Any]
    tuned_horizon: int | None
    seed: int
    num_evaluations: int = NUM_EVALUATIONS


class TrainCell(Cell):
    """A training run."""

    kind = "train"
    config: TrainConfig

    @property
    def title(self) -> str:
        """Task, optimizer and seed."""
        return f"{self.config.task} {self.config.optimizer} seed {self.config.seed}"

    @property
    def row(self) -> tuple[str, str]:
        """Task and optimizer."""
        return self.config.task, self.config.optimizer

    def execute(self, session: Session, advance: Advance) -> Outcome:
        """Trains and measures the time; a non-finite loss ends the run as diverged."""
        config, (entrant,) = self.config, self.entrants
        task = session.task(config.task)
        program, fresh = session.program(entrant, config)
        found = run_cell(
            program,
            entrant,
            task,
            run_key(config.task, config.seed),
            config.horizon,
            time_limit_sec=session.time_limit_sec,
            tick=lambda steps: advance(steps / config.horizon),
        )
        if not fresh:
            return found
        assert found.clock is not None
        compile_sec = sum(program.compile_sec.values())
        return found._replace(clock=msgspec.structs.replace(found.clock, compile_sec=compile_sec))


def plan(lineup: Lineup) -> list[TrainCell]:
    """For each seed one run of every optimizer, in random order (protocol rule 7); controls on the first seeds only."""
    suite, found = lineup.suite, []
    for seed in suite.seeds:
        for i in np.random.default_rng(seed).permutation(len(lineup.trained)):
            entrant = lineup.trained[i]
            if entrant.role != controls.ROLE or seed in suite.seeds[: controls.NUM_TRAINED_SEEDS]:
                found.append(TrainCell(_config(lineup.task, entrant, seed), (entrant,)))
    return found


def plan_broken(suite: Suite, registry: Registry, task: str, broken: BrokenTask) -> list[TrainCell]:
    """The cells of a task that cannot be built; each has the failure of building it as its outcome."""
    config = TaskConfig.of_broken(suite, registry, task)
    failure = Outcome(Status(broken.status), reason=broken.reason)
    entrants = suite_entrants(suite, registry, config.family, config.horizon)
    return [
        TrainCell(_config(config, entrant, seed), (entrant,), failure) for seed in suite.seeds for entrant in entrants
    ]


def _config(task: TaskConfig, entrant: Entrant, seed: int) -> TrainConfig:
    return TrainConfig(
        **task.fields,
        optimizer=entrant.name,
        role=entrant.role,
        hyperparameters=dict(entrant.identity),
        tuned_horizon=entrant.tuned_horizon,
        seed=seed,
    )
