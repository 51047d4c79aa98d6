"""Filters: judge a data set."""
