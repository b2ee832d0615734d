"""Supervision: starts the workers, watches them, ends them and reports how they ended.

It never imports torch, so it outlives whatever happens in the workers.
"""
