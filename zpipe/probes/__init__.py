"""Short runs before a run, which measure what `GROUP=auto` may choose."""
