"""``dz.KohnSham`` and its kin: layers made from PySCF's molecules, crystals and batches of them."""

from deeph_zero.kohnsham.molecule import KohnSham, MoleculeResult

__all__ = ["KohnSham", "MoleculeResult"]
