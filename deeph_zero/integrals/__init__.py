"""Numbers from PySCF (integrals, grids, AO values, libxc) as float64 tensors."""

from deeph_zero.integrals import no_eval

no_eval.switch_off()
