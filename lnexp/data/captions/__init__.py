"""Images with captions (paper section 6.1)."""
