"""One run from its plan to its outcome, and the outcome of a run whose zpipe was killed."""
