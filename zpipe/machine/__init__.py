"""What this machine has and lacks: GPUs, cores, memory, compilers. Never imports torch."""
