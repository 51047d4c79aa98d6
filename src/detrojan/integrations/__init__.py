"""A scan at the end of training: one file for each framework, imported by those who use it."""
