"""Suites are data: the TOML files in this folder, and what reads them and chooses a part of one."""
