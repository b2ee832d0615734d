"""What a worker does from start to end, one module for each task."""
