"""Numbers from PySCF (integrals, grids, AO values, libxc) as float64 tensors."""
