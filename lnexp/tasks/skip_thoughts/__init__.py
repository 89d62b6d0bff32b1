"""Skip-thoughts: sentence vectors from neighbouring sentences (paper section 6.3)."""
