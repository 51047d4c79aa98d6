"""Judging: what is usual, how far a label lies from it, and what that comes to."""
