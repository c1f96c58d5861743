"""Density variables on grid points and their adjoint, one molecule or padded stacks."""
