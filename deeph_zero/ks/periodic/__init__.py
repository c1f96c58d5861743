"""Kohn-Sham theory at k-points on a uniform grid: matrices are [nspin, nk, nao, nao]."""
