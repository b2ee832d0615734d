"""Diagnoses how a run ended: evidence, cause, remedies, post-mortem, and the archive for a bug report."""
