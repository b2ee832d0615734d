"""transformers' trainers over DeepSpeed, one module each."""
