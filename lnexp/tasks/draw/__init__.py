"""DRAW: a recurrent attention model of binarised MNIST (paper section 6.4, Figure 4)."""
