"""Terminal output: the live line, tables, summaries and problems."""
