"""`GROUP=auto`: the fastest settings that are predicted to fit, found without torch."""
