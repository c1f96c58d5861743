"""Atomic-orbital bookkeeping: shells, order conventions, matrix blocks and their irreps."""
