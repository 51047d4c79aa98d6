"""Surgery on networks: units and directions taken out, and one more class."""
