"""Computes what a run keeps in memory and in swap files."""
