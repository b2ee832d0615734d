"""Recording: the only package that knows MLflow, which is imported inside functions only."""
