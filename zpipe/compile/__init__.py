"""Compiles an Experiment into a Plan: DeepSpeed JSON, TrainingArguments and launch, from one source."""
