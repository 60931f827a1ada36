"""The name of a cell."""

from bench.store.record import cell_id
from tests.bench.store.cells import record


def test_the_cell_is_named_by_its_whole_configuration():
    base = record().config
    assert cell_id(base) == cell_id(dict(reversed(base.items())))
    assert cell_id(base) != cell_id(base | {"seed": 1})
    assert cell_id(base) != cell_id(base | {"hyperparameters": {"learning_rate": 0.1}})
