"""Prompts in the order a subnet gave them: slices in, ordered requests out."""
