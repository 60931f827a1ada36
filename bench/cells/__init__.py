"""One module for each kind of cell: its configuration, plan, title and execution."""
