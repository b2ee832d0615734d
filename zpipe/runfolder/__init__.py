"""The run folder: its paths, its files and who may write them."""
