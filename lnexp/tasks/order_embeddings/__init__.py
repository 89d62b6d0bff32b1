"""Order embeddings: image-sentence ranking (paper section 6.1)."""
