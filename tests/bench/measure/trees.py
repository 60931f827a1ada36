"""A tiny tree to measure."""

from bench.measure import update_cost
from tasks.base import ModuleInit
from tasks.models import MLP

TABLE = {"kind": "measure", "measurement": "update_cost", "optimizers": ["adam"]}
TREE = update_cost.Tree("mlp", ModuleInit(MLP((4,), 3), (2, 2, 1)))
