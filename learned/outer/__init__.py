"""Outer-training: theta by stochastic gradients of the outer-loss over a family's outer-training classes.

Example with a configuration of `learned/configs`:

    config = load_config("lopt_paper_small")
    engine = Engine(config, load_families(config))
    theta, metrics, facts = outer_train(engine, RunFolder(Path("my-run")))

The modules, each importing only those above it:

    processes    what passes between processes that outer-train together
    checkpoints  arrays and facts on disk, written atomically
    engine       the compiled parts: one outer step, outer-validation
    record       counts and facts of a run
    files        the files of a run, read after it
    storage      the folder of a run while it is running: saving and resuming
    loop         outer_train
"""

from learned.outer.files import STAGE_FILE as STAGE_FILE
from learned.outer.files import outer_step_reached as outer_step_reached
from learned.outer.files import save_best as save_best
from learned.outer.files import stage_end as stage_end
from learned.outer.files import write_metrics as write_metrics
from learned.outer.loop import Callbacks as Callbacks
from learned.outer.loop import outer_train as outer_train
from learned.outer.record import Metrics as Metrics
from learned.outer.record import Progress as Progress
from learned.outer.record import Trained as Trained
from learned.outer.record import inner_steps_of as inner_steps_of
from learned.outer.step import Engine as Engine
from learned.outer.step import Families as Families
from learned.outer.step import load_families as load_families
from learned.outer.storage import RunFolder as RunFolder
