"""What all verbs of the command line share: options, defaults, progress, and where results go."""
