"""Many models: finding them, a first look without data, and the scans in the order of suspicion."""
