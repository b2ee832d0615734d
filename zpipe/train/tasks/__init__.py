"""Complete jobs of a worker, one module per task."""
