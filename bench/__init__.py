"""The way to ask: command line, suites, tuning, timing, store, statistics, report."""
