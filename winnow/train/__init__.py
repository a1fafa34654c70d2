"""The one loop: phases, device, precision, checkpoints, metrics."""
