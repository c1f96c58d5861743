"""What the atoms get of a density matrix: Mulliken and Löwdin charges, Mayer bond orders."""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.types import Brief, SpinMatrix


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Populations(Brief):
    """Charges and bonds of one density matrix.

    Attributes:
        mulliken_charges: Z_A - Σ_{m on A} (P S)_mm, elementary charges, [natm].
        lowdin_charges: Z_A - Σ_{m on A} (S^½ P S^½)_mm, [natm].
        spin_populations: Mulliken's, of P_α - P_β, [natm]; None for a closed shell.
        bond_orders: Mayer's, [natm, natm], zero on the diagonal.
    """

    mulliken_charges: Float[Tensor, " natm"]
    lowdin_charges: Float[Tensor, " natm"]
    spin_populations: Float[Tensor, " natm"] | None
    bond_orders: Float[Tensor, "natm natm"]


def square_root(ovlp: Float[Tensor, "nao nao"]) -> Float[Tensor, "nao nao"]:
    """S^½, the symmetric one."""
    values, vectors = torch.linalg.eigh(ovlp)
    return (vectors * values.clamp_min(0.0).sqrt()) @ vectors.mH


def populations(
    dm: SpinMatrix,
    ovlp: Float[Tensor, "nao nao"],
    ao_atoms: Sequence[int],
    atom_charges: Sequence[int],
    root: Float[Tensor, "nao nao"] | None = None,
) -> Populations:
    """Population analysis of a density matrix.

    Args:
        dm: Density matrix with occupations, [nspin, nao, nao].
        ovlp: S.
        ao_atoms: Atom of each AO.
        atom_charges: Nuclear charges, those of an effective core potential reduced by its core.
        root: :func:`square_root` of ``ovlp``, where it is known already.

    Returns:
        Charges sum to the molecular charge; bond orders are symmetric.

    References:
        R. S. Mulliken, J. Chem. Phys. 23, 1833 (1955).
        P.-O. Löwdin, J. Chem. Phys. 18, 365 (1950).
        I. Mayer, Chem. Phys. Lett. 97, 270 (1983), eq. 4; open shells: Theor. Chim. Acta 67, 315
        (1985), eq. 5.
    """
    atoms = torch.as_tensor(ao_atoms, device=dm.device)
    nuclei = torch.as_tensor(atom_charges, dtype=dm.dtype, device=dm.device)
    member = torch.nn.functional.one_hot(atoms, len(nuclei)).to(dm.dtype)
    total = dm.sum(0)
    ps = total @ ovlp
    root = square_root(ovlp) if root is None else root
    spin = spin_ps = None
    if len(dm) == 2:
        spin_ps = (dm[0] - dm[1]) @ ovlp
        spin = spin_ps.diagonal() @ member
    bonds = member.mT @ (ps * ps.mT) @ member
    if spin_ps is not None:
        bonds = bonds + member.mT @ (spin_ps * spin_ps.mT) @ member
    return Populations(
        mulliken_charges=nuclei - ps.diagonal() @ member,
        lowdin_charges=nuclei - (root @ total @ root).diagonal() @ member,
        spin_populations=spin,
        bond_orders=bonds - torch.diag(bonds.diagonal()),
    )
