"""A molecule without two-electron integrals and grid: enough for orbitals, density, dipole."""

from typing import Any, NoReturn

import torch

from deeph_zero.errors import ComputationError
from deeph_zero.integrals.info import KSInfo, ks_info
from deeph_zero.integrals.libxc import describe
from deeph_zero.integrals.mole import auxiliary_basis
from deeph_zero.integrals.one_electron import one_electron
from deeph_zero.integrals.orbitals import charge_of, check_orbitals
from deeph_zero.integrals.supported import check_molecule
from deeph_zero.integrals.system import static_data
from deeph_zero.integrals.two_electron import TwoElectronPart
from deeph_zero.ks.protocol import KSData
from deeph_zero.types import AOMatrix


class NoTwoElectron:
    """Stands where the operator of J is expected; every use is refused."""

    def coulomb(self, dm: AOMatrix, factors: object = None) -> NoReturn:
        """Refuse.

        Args:
            dm: Density matrix.
            factors: Its factors.

        Raises:
            ComputationError: Always.
        """
        del dm, factors
        raise ComputationError(
            "expected two-electron integrals for a Fock build, got a layer that was made without; "
            "make it with KohnSham.from_pyscf"
        )

    exchange = coulomb


def bare_data(
    mol: Any,
    *,
    xc: str,
    density_fit: bool,
    auxbasis: str | None,
    unrestricted: bool | None,
    device: torch.device | str = "cpu",
) -> tuple[KSData, KSInfo]:
    """S, the one-electron matrices and the names of a method that nothing is evaluated of.

    The starting density is zero, and a Fock build fails.

    Args:
        mol: Built ``gto.Mole``.
        xc: Functional, PySCF's syntax.
        density_fit: Whether a layer with integrals would fit them.
        auxbasis: Fitting set; None: PySCF's choice.
        unrestricted: Whether matrices carry a spin axis; None: if ``mol.spin`` is not 0.
        device: Where every tensor goes.

    Returns:
        Data for orbitals, densities and dipoles, and its description; sizes of what is absent are
        zero.

    Raises:
        InputError: If the molecule, functional or fitting set is not supported.
    """
    check_molecule(mol)
    check_orbitals(mol.nelec, int(mol.nao_nr()), charge=charge_of(mol))
    spec = describe(xc)
    aux = auxiliary_basis(mol, xc, auxbasis).name if density_fit else None
    one = one_electron(mol, device=device)
    nao = one.ovlp.shape[0]
    none = TwoElectronPart(coulomb=NoTwoElectron(), exchange=(), memory_bytes=0)
    spins = mol.spin != 0 if unrestricted is None else unrestricted
    start = one.ovlp.new_zeros((2, nao, nao) if spins else (nao, nao))
    data = static_data(mol, one, none, start, unrestricted=bool(spins))
    return data, ks_info(mol, spec, xc, auxbasis=aux)
