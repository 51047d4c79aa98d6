"""Learning: the one training loop, what changes its images, and networks trained from their start."""
