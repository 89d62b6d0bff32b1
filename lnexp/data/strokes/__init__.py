"""Lines of handwriting: the movements of a pen, and the text that they write (paper section 6.5)."""
