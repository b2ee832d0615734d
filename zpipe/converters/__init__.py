"""Configurations of other tools become overrides."""
