"""A guard in service: the guarded model over HTTP."""
