"""zpipe: declarative DeepSpeed fine-tuning, from YAML to MLflow."""

__version__ = "0.1.0"
