"""What this machine has and what it is missing: GPUs, cores, memory, compilers. Never imports torch."""
