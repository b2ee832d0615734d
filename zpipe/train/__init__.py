"""The training worker: the only package that imports torch. It reads the plan and writes events."""
