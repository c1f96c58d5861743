"""Hamiltonian files of other programs: one file per format, one protocol between them."""
