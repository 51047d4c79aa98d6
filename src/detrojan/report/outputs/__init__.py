"""What a report is written as: one file per output."""
