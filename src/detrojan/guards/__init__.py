"""Guards: judge an input."""
