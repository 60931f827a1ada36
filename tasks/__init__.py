"""Tasks: data on the device, models, families of tasks, and the one inner loop that trains them."""

from tasks.registry import FAMILIES as FAMILIES
from tasks.registry import MIXTURES as MIXTURES
from tasks.registry import OUTER_FAMILIES as OUTER_FAMILIES
from tasks.registry import UnknownNameError as UnknownNameError
from tasks.registry import data_facts as data_facts
from tasks.registry import describe as describe
from tasks.registry import family_row as family_row
from tasks.registry import load as load
from tasks.registry import load_family as load_family
from tasks.registry import members as members
from tasks.registry import task_cfg as task_cfg
from tasks.registry import task_digest as task_digest
from tasks.registry import task_names as task_names
from tasks.task import SPLITS as SPLITS
from tasks.task import Batch as Batch
from tasks.task import Key as Key
from tasks.task import Params as Params
from tasks.task import Problem as Problem
from tasks.task import Split as Split
from tasks.task import Task as Task
from tasks.task import TaskFamily as TaskFamily
from tasks.task import array_task as array_task
from tasks.task import cross_entropy as cross_entropy
from tasks.task import named_key as named_key
from tasks.task import num_params as num_params
