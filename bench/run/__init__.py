"""Running a suite: plans its cells and runs those that are not stored, in this process or in child processes."""
