"""Label-free training: losses, teacher, loop, checkpoints."""
