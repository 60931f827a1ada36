"""Gradient estimators of the variational outer-objective, one file each with its paper on top."""

from learned.estimators.base import Estimate as Estimate
from learned.estimators.base import Estimator as Estimator
from learned.estimators.es import es as es
