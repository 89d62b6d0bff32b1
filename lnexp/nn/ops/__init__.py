"""Functions without parameters."""
