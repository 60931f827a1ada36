"""Hand-designed optimizers: constructors, search spaces, references, and tuned values as data."""

from baselines.base import Baseline as Baseline
from baselines.base import LogUniform as LogUniform
from baselines.of_optax import is_of_optax as is_of_optax
from baselines.of_optax import of_optax as of_optax
from baselines.registry import BASELINES as BASELINES
from baselines.registry import warmup_cosine as warmup_cosine
from baselines.tuned_values import SHIPPED_DIR as SHIPPED_DIR
from baselines.tuned_values import Tuned as Tuned
from baselines.tuned_values import find_tuned as find_tuned
from baselines.tuned_values import loss_keys as loss_keys
from baselines.tuned_values import read_tuned as read_tuned
from baselines.tuned_values import tuned_by as tuned_by
from baselines.tuned_values import tuned_path as tuned_path
