"""Data sets: where their bytes come from, and what they hold."""
