"""The room that supervises: starts the workers, watches them, ends them and says how they ended.

It never imports torch, so it outlives whatever happens in the workers.
"""
