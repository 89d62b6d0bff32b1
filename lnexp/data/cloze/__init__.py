"""Cloze questions about passages with anonymous entities (paper section 6.2)."""
