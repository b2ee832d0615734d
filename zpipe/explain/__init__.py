"""Views of plans for people: why a value is what it is, and what differs between two plans."""
