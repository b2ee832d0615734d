"""The command line: one module for each verb, see zpipe.cli.verb."""
