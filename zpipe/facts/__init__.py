"""Facts that are known before compilation: the machine, the model, and values derived from both."""
