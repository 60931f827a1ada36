"""Running a suite: planning its cells, running those that are not stored, in this process or in others."""
