"""Suites: TOML files in this folder, and functions that read them and choose a part of one."""
