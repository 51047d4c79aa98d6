"""Triggers: what attacks stamp, scans recover and repairs unlearn."""
