"""The one room that knows Hydra: overrides, config groups and recipes become an Experiment."""
