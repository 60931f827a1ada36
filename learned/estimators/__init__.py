"""Gradient estimators of the variational outer-objective, one file each with its paper at the top."""

from typing import Any

from learned.estimators.base import Each
from learned.estimators.base import Estimate as Estimate
from learned.estimators.base import Estimator as Estimator
from learned.estimators.base import OuterObjective as OuterObjective
from learned.estimators.base import one_by_one as one_by_one
from learned.estimators.base import over_devices as over_devices
from learned.estimators.base import side_by_side as side_by_side
from learned.estimators.es import es as es
from learned.estimators.merge import merge as merge
from learned.estimators.merge import merged as merged
from learned.estimators.merge import with_own_es as with_own_es
from learned.estimators.merged_windows import merged_windows as merged_windows
from learned.estimators.nres import nres as nres
from learned.estimators.pes import pes as pes
from learned.estimators.reparam import reparam as reparam
from learned.estimators.tbptt import tbptt as tbptt
from learned.estimators.truncated_es import truncated_es as truncated_es

# Name in a configuration -> constructor; `merge` takes two. PERTURBED ones estimate the gradient of a smoothed loss.
ESTIMATORS = {
    "tbptt": tbptt,
    "reparam": reparam,
    "es": es,
    "merged_windows": merged_windows,
    "truncated_es": truncated_es,
    "pes": pes,
    "nres": nres,
}
PERTURBED = ("reparam", "es", "merged_windows", "truncated_es", "pes", "nres")
TRUNCATED = ("tbptt", "truncated_es", "pes", "nres")  # those over windows of unrolls


def make_by_name(
    name: str, objective: OuterObjective, num_tasks: int, sigma: float, each: Each = one_by_one, late: bool = False
) -> Estimator:
    """An estimator by name; `sigma` is passed to perturbed ones only, `late` only to those over whole unrolls."""
    options: dict[str, Any] = {"sigma": sigma} if name in PERTURBED else {}
    options |= {} if name in TRUNCATED else {"late": late}
    return ESTIMATORS[name](objective, num_tasks, each=each, **options)
