"""A molecule without two-electron integrals and grid: enough for orbitals, density, dipole."""

from typing import NoReturn

import torch
from pyscf import gto

from deeph_zero.errors import ComputationError
from deeph_zero.integrals.libxc import XCSpec, describe
from deeph_zero.integrals.mole import auxiliary_basis
from deeph_zero.integrals.one_electron import lindep_threshold, one_electron
from deeph_zero.integrals.system import KSInfo
from deeph_zero.ks.protocol import KSData
from deeph_zero.types import AOMatrix


class NoTwoElectron:
    """Stands where the operator of J is expected; every use is refused."""

    def coulomb(self, dm: AOMatrix) -> NoReturn:
        """Refuse.

        Args:
            dm: Density matrix.

        Raises:
            ComputationError: Always.
        """
        del dm
        raise ComputationError(
            "expected two-electron integrals for a Fock build, got a layer that was made without; "
            "make it with KohnSham.from_pyscf"
        )

    exchange = coulomb


def bare_data(
    mol: gto.Mole,
    *,
    xc: str,
    density_fit: bool,
    auxbasis: str | None,
    unrestricted: bool,
    device: torch.device | str = "cpu",
) -> tuple[KSData, KSInfo]:
    """S, the one-electron matrices and the names of a method that nothing is evaluated of.

    The starting density is zero, and a Fock build fails.

    Args:
        mol: Built molecule.
        xc: Functional, PySCF's syntax.
        density_fit: Whether a layer with integrals would fit them.
        auxbasis: Fitting set; None: PySCF's choice.
        unrestricted: Whether matrices carry a spin axis.
        device: Where every tensor goes.

    Returns:
        Data for orbitals, densities and dipoles, and its description; sizes of what is absent are
        zero.

    Raises:
        InputError: If the functional or fitting set is not supported.
    """
    info = _info(mol, describe(xc), xc, auxbasis, density_fit=density_fit)
    one = one_electron(mol, device=device)
    nao = one.ovlp.shape[0]
    data = KSData(
        ovlp=one.ovlp,
        hcore=one.hcore,
        dipole=one.dipole,
        nuclear_dipole=one.nuclear_dipole,
        e_nuc=one.e_nuc,
        nelec=(int(mol.nelec[0]), int(mol.nelec[1])),
        unrestricted=unrestricted,
        coulomb=NoTwoElectron(),
        exchange=(),
        functional=None,
        grid=None,
        dm_guess=one.ovlp.new_zeros((2, nao, nao) if unrestricted else (nao, nao)),
        lindep_threshold=lindep_threshold(),
    )
    return data, info


def _info(
    mol: gto.Mole, spec: XCSpec, xc: str, auxbasis: str | None, *, density_fit: bool
) -> KSInfo:
    """The method's names; every size of what is absent is zero."""
    return KSInfo(
        xc=xc,
        kind=spec.kind,
        xc_components=[[name, float(factor)] for name, factor in spec.components],
        hyb=float(spec.hyb),
        alpha=float(spec.alpha),
        omega=float(spec.omega),
        basis=str(mol.basis),
        auxbasis=auxiliary_basis(mol, xc, auxbasis).name if density_fit else None,
        density_fit=density_fit,
        grid_level=None,
        ngrids=0,
        nao=int(mol.nao_nr()),
        naux=0,
        cart=bool(mol.cart),
        charge=int(mol.charge),
        spin=int(mol.spin),
        nlc=[[term.b, term.c, term.coefficient] for term in spec.corrections.nlc],
        dispersion=spec.corrections.dispersion,
        e_disp=0.0,
        memory_bytes=0,
        ao_atoms=tuple(
            a
            for a, (*_, start, stop) in enumerate(mol.aoslice_by_atom())
            for _ in range(start, stop)
        ),
        atom_charges=tuple(int(z) for z in mol.atom_charges()),
    )
