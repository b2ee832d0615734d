"""The room that records: the only one that knows MLflow, which is imported inside functions alone."""
