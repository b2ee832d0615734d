"""What is known before the compilation: the machine, the model, and what follows from both."""
