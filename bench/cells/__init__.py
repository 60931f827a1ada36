"""What can be run: a module for each kind of cell, with its configuration, plan, title and execution."""
