"""Question answering with the attentive reader (paper section 6.2)."""
