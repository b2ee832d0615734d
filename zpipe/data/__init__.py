"""Reads and checks the training data without torch: the plan its start, the worker all of it."""
