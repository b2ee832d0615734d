"""From the evidence of an end to its cause, the remedies and the archive for a bug report."""
