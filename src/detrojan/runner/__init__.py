"""Who does the parts of a piece of work; nothing below knows which of them it is."""
