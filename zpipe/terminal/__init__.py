"""What is printed: the live line, tables, problems."""
