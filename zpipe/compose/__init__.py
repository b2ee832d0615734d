"""Composes overrides, config groups and recipes into an Experiment, through Hydra."""
