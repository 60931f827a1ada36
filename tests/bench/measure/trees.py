"""A tiny tree to measure."""

from bench.measure import update_cost
from tasks.models import MLP
from tasks.task import ModuleInit

TABLE = {"kind": "measure", "measurement": "update_cost", "optimizers": ["adam"]}
TREE = update_cost.Tree("mlp", ModuleInit(MLP((4,), 3), (2, 2, 1)))
