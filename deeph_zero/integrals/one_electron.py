"""One-electron matrices from PySCF as float64 tensors: S, T + V (+ ECP), dipole, repulsion."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from pyscf import gto
from pyscf.scf import hf
from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneElectron:
    """One-electron part of a molecule; see :class:`~deeph_zero.ks.protocol.KSData`.

    Attributes:
        ovlp: S, [nao, nao].
        hcore: T + V (+ ECP), [nao, nao], Eh.
        dipole: <m| r |n> about ``centre``, [3, nao, nao], bohr.
        nuclear_dipole: sum_A Z_A (R_A - centre), [3], bohr.
        centre: Nuclear-charge centre, [3], bohr.
        e_nuc: Nuclear repulsion, Eh.
    """

    ovlp: Float[Tensor, "nao nao"]
    hcore: Float[Tensor, "nao nao"]
    dipole: Float[Tensor, "3 nao nao"]
    nuclear_dipole: Float[Tensor, " 3"]
    centre: Float[Tensor, " 3"]
    e_nuc: float


def as_tensor(array: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Contiguous float64 tensor of our own memory (PySCF's arrays carry tags and get reused)."""
    plain = np.array(array, dtype=np.float64, order="C", copy=True, subok=False)
    return torch.from_numpy(plain).to(device)


def charge_centre(mol: gto.Mole) -> np.ndarray:
    """Centre of nuclear charge, [3], bohr.

    Charges are those PySCF's Hamiltonian uses: reduced by ECP cores, zero for ghost atoms. With
    ghost atoms alone the plain mean of the positions is taken, so the origin stays defined.
    """
    charges = mol.atom_charges().astype(float)
    coords = mol.atom_coords()
    if charges.sum() == 0:
        return coords.mean(axis=0)
    return charges @ coords / charges.sum()


def one_electron(
    mol: gto.Mole,
    *,
    ovlp: np.ndarray | None = None,
    hcore: np.ndarray | None = None,
    e_nuc: float | None = None,
    device: torch.device | str = "cpu",
) -> OneElectron:
    """S, T + V + ECP, dipole matrices and nuclear numbers of one molecule.

    Args:
        mol: Built molecule.
        ovlp: S of a mean-field object that has its own; None: PySCF's.
        hcore: Core Hamiltonian of such an object, Eh; None: PySCF's.
        e_nuc: Nuclear repulsion of such an object, Eh; None: PySCF's.
        device: Where the tensors go.

    Returns:
        The matrices; equal to PySCF's to the last bit.
    """
    centre = charge_centre(mol)
    charges = mol.atom_charges().astype(float)
    with mol.with_common_orig(centre):
        dipole = mol.intor_symmetric("int1e_r", comp=3)
    return OneElectron(
        ovlp=as_tensor(hf.get_ovlp(mol) if ovlp is None else ovlp, device),
        hcore=as_tensor(hf.get_hcore(mol) if hcore is None else hcore, device),
        dipole=as_tensor(dipole, device),
        nuclear_dipole=as_tensor(charges @ (mol.atom_coords() - centre), device),
        centre=as_tensor(centre, device),
        e_nuc=float(mol.energy_nuc()) if e_nuc is None else e_nuc,
    )


def lindep_threshold() -> float:
    """Smallest eigenvalue of S that PySCF's SCF keeps.

    PySCF 2.14 orthogonalises canonically in every SCF (``scf.hf.check_linear_dependency``):
    eigenvectors with eigenvalue <= ``overlap_zero_eigenvalue_threshold`` (1e-6) are dropped. When
    the user has switched that off, nothing is dropped (0).
    """
    if not hf.remove_overlap_zero_eigenvalue:
        return 0.0
    return float(hf.overlap_zero_eigenvalue_threshold)
