"""The Plan: everything that was decided about one run, as a value, with the source of each value."""
