"""Unit conversions, used only at the edges; everything inside is in Hartree atomic units.

The values are PySCF's (CODATA 2010 for the Bohr radius); a test compares them with
``pyscf.data.nist`` so that a structure read here is PySCF's to the last digit.
"""

BOHR_IN_ANGSTROM = 0.52917721092
HARTREE_IN_EV = 27.21138602
DEBYE_PER_AU = 2.5417464157449032
"""One atomic unit of dipole moment (e a0) in debye."""
