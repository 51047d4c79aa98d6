"""Parsers of files from strangers. They run in the quarantine, and import nothing slow."""
