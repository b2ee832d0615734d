"""Experiment → Plan: the DeepSpeed JSON, TrainingArguments and the launch, from one source."""
