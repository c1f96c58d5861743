"""Numbers of crystals from PySCF: cells, k-points, Bloch sums on the uniform grid, potentials."""
