"""Data: what models are judged on."""
