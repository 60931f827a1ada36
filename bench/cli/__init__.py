"""The command line: each command parses its options, builds a configuration and calls one function."""
