"""Converts configurations of other tools into zpipe overrides."""
