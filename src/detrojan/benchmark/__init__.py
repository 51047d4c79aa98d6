"""The bench: a plan of data sets x networks x attacks x defences x seeds, its execution, and its tables."""
