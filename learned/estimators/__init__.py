"""Gradient estimators of the variational outer-objective, one file each with its paper on top."""

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
from learned.estimators.nres import nres as nres
from learned.estimators.pes import pes as pes
from learned.estimators.reparam import reparam as reparam
from learned.estimators.tbptt import tbptt as tbptt
from learned.estimators.truncated_es import truncated_es as truncated_es

# Name in a configuration -> constructor; `merge` takes two of them. Those of PERTURBED smooth the outer-loss by sigma.
ESTIMATORS = {"tbptt": tbptt, "reparam": reparam, "es": es, "truncated_es": truncated_es, "pes": pes, "nres": nres}
PERTURBED = ("reparam", "es", "truncated_es", "pes", "nres")
TRUNCATED = ("tbptt", "truncated_es", "pes", "nres")  # those that carry unrolls on by windows


def make_by_name(
    name: str, objective: OuterObjective, num_tasks: int, sigma: float, each: Each = one_by_one
) -> Estimator:
    """A row of `ESTIMATORS`; `sigma` is left out where it perturbs nothing."""
    options = {"sigma": sigma} if name in PERTURBED else {}
    return ESTIMATORS[name](objective, num_tasks, each=each, **options)
