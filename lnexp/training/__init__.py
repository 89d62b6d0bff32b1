"""How a run is made: the training loop, checkpoints, logs, processes."""
