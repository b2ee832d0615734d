"""Readable views of plans: why a value is what it is, and what differs between two plans."""
