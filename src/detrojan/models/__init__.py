"""Models: what is judged."""
