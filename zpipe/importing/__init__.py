"""Configurations of other tools → zpipe's overrides: DeepSpeed JSON, accelerate's YAML, TrainingArguments.

Nothing is dropped in silence: what is not carried over as it stands is a note or a problem.
"""
