"""The self-consistent field on one grid or two: iteration, mixing, starts."""
