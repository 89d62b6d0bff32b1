"""Handwriting: prediction of pen movements, with a text or without (paper section 6.5)."""
