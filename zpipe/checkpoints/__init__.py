"""Checkpoint folders: what belongs in them, which can be trusted, which may go. Never imports torch."""
