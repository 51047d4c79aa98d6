"""Searches for universal perturbations: the smallest change that sends many images to one label."""
