"""What to tell about a run that did not finish: what happened, what shows it, and what to try."""
