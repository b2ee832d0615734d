"""One archive for a bug report: what was planned, on what, what was said, how it ended. Without secrets."""
