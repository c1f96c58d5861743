"""Radial functions of atoms, as other programs write them: pseudopotentials and orbitals."""
