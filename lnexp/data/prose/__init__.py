"""Contiguous prose: sentences in order and triplets of neighbours (paper section 6.3)."""
