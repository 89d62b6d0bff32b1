"""The convolutional net of section 6.7."""
