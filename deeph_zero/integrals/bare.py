"""A molecule without two-electron integrals and grid: enough for orbitals, density, dipole."""

from typing import NoReturn

import torch

from deeph_zero.errors import ComputationError
from deeph_zero.integrals.calculation import Calculation, fitting_set
from deeph_zero.integrals.info import KSInfo, ks_info
from deeph_zero.integrals.one_electron import one_electron
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


def bare_data(found: Calculation, *, device: torch.device | str = "cpu") -> tuple[KSData, KSInfo]:
    """S, the one-electron matrices and the names of a method that nothing is evaluated of.

    The starting density is zero, and a Fock build fails.

    Args:
        found: What a layer with integrals would compute.
        device: Where every tensor goes.

    Returns:
        Data for orbitals, densities and dipoles, and its description; sizes of what is absent are
        zero.

    Raises:
        InputError: If the fitting set is not supported.
    """
    aux = fitting_set(found).name if found.method.density_fit else None
    one = one_electron(found.mol, device=device)
    nao = one.ovlp.shape[0]
    none = TwoElectronPart(coulomb=NoTwoElectron(), exchange=(), memory_bytes=0)
    start = one.ovlp.new_zeros((2, nao, nao) if found.unrestricted else (nao, nao))
    return static_data(found, one, none, start), ks_info(found, auxbasis=aux)
