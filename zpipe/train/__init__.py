"""The training worker: the only room that knows torch. It reads the plan and writes events."""
