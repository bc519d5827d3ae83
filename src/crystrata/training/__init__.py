"""Training: the Lightning task, moving averages, checkpoints and the engine that joins them."""
