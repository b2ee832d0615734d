"""Writes trained weights as a folder for from_pretrained, and proves that they are the trained ones."""
