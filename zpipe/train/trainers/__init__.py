"""Trainers of the transformers library on DeepSpeed, one module per objective."""
