"""The 57 symbols of the handwriting network (Graves 2013, section 5.2; paper section 6.5)."""

from __future__ import annotations

import string

import numpy as np

CHARACTERS = " .,'" + string.ascii_lowercase + string.ascii_uppercase  # ours: Graves lists none; all others are one more symbol
OTHER = len(CHARACTERS)
SYMBOLS = OTHER + 1


def encode(text: str) -> np.ndarray:
    """The symbols of a text, uint8; characters that are not in the table become OTHER."""
    return np.array([CHARACTERS.index(c) if c in CHARACTERS else OTHER for c in text], np.uint8)


def decode(codes: np.ndarray) -> str:
    """The text of symbols; OTHER is shown as #."""
    return "".join((CHARACTERS + "#")[c] for c in codes)
