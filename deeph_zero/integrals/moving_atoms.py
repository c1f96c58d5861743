"""Derivatives of one molecule's integrals with respect to its atoms, through PySCF's.

PySCF's Hessian code gives the derivatives of J and K (fitting functions move along) and of VV10,
its gradient code those of the core Hamiltonian. The semilocal part, all its grid points moving, is
:mod:`deeph_zero.ks.terms.moving_semilocal`, fed with AO values and weights from here.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pyscf import dft, gto, scf
from pyscf.df.grad import rhf as df_gradient
from pyscf.df.hessian import uhf as df_hessian
from pyscf.dft import gen_grid, numint
from pyscf.grad import rhf as gradient
from pyscf.grad.rks import get_nlc_vxc, grids_response_cc
from pyscf.hessian import rhf as hessian
from pyscf.hessian import rks as ks_hessian
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.integrals.calculation import Calculation, fitting_set
from deeph_zero.integrals.grids import build_grid, with_elements
from deeph_zero.integrals.libxc import make_functional
from deeph_zero.integrals.one_electron import as_tensor, charge_centre
from deeph_zero.integrals.two_electron import exchange_terms
from deeph_zero.ks.linalg.factor import spectral_factor
from deeph_zero.ks.protocol import Functional, VV10Parameters
from deeph_zero.ks.terms.moving_semilocal import MovingBlock, MovingPart, moving_semilocal
from deeph_zero.types import SpinMatrix

BLOCK_VALUES = 4_000_000
"""AO values with derivatives in one block of points."""


def moving_atoms(settings: Calculation) -> "MovingAtoms":
    """Derivatives of what :func:`~deeph_zero.integrals.system.ks_data` makes.

    Args:
        settings: The calculation.

    Returns:
        The derivatives; nothing is computed yet.

    Raises:
        InputError: If there are none.
    """
    functional = make_functional(settings.spec, unrestricted=settings.unrestricted)
    found = MovingAtoms(settings, functional)
    found.check()
    return found


class MovingAtoms:
    """How overlap, dipole integrals and the Fock matrix at fixed density follow the atoms."""

    def __init__(self, settings: Calculation, functional: Functional | None) -> None:
        """Nothing is computed yet.

        Args:
            settings: The calculation.
            functional: The semilocal one, or None.
        """
        self._settings = settings
        self._spec = settings.spec
        self._functional = functional
        self._mol = settings.mol
        self._slices = [slice(*one[2:]) for one in self._mol.aoslice_by_atom()]

    @property
    def natm(self) -> int:
        """Number of atoms, ghosts included."""
        return int(self._mol.natm)

    @property
    def charges(self) -> Float[Tensor, " natm"]:
        """Nuclear charges in the Hamiltonian."""
        return torch.from_numpy(np.array(self._mol.atom_charges(), dtype=np.float64))

    def check(self) -> None:
        """See whether there are derivatives.

        Raises:
            InputError: If the object's own matrices, its grid or its functional have none.
        """
        settings = self._settings
        own = _own_matrices(settings)
        if own:
            raise InputError(
                f"expected PySCF's own integrals to differentiate, got a mean-field object with "
                f"another {own}; give its molecule"
            )
        for grids in (settings.grids, settings.nlcgrids if self._spec.corrections.nlc else None):
            if grids is not None and not _moves(grids):
                raise InputError(
                    "expected an atomic grid with Becke's partition to differentiate, got points "
                    "or weights of another kind; leave mf.grids as PySCF makes it"
                )
        if len(self._spec.corrections.nlc) > 1:
            raise InputError(
                "expected at most one VV10 term to differentiate, got "
                f"{len(self._spec.corrections.nlc)}; choose another functional"
            )

    def overlap(self) -> Float[Tensor, "natm 3 nao nao"]:
        """dS/dR, 1/bohr."""
        return self._symmetric(-self._mol.intor("int1e_ipovlp", comp=3))

    def position(self) -> Float[Tensor, "natm 3 3 nao nao"]:
        """d<m|r|n>/dR by atom, direction of motion and component of r, bohr/bohr.

        r is counted from the present centre of nuclear charge, which stands still.
        """
        with self._mol.with_common_orig(charge_centre(self._mol)):
            moved = -self._mol.intor("int1e_irp", comp=9)  # <m|r ∂|n>: r, then ∂
        nao = moved.shape[-1]
        by_motion = moved.reshape(3, 3, nao, nao).transpose(1, 0, 3, 2)
        return torch.stack([self._symmetric(part) for part in by_motion], dim=1)

    def fock(self, dm: SpinMatrix) -> MovingPart:
        """dF/dR at fixed density matrix, and <∂m|F|n>.

        Args:
            dm: Density matrix of integer occupations, its spin axis written out.

        Returns:
            Eh/bohr.
        """
        total = dm.sum(0)
        orbitals = [_orbitals(one, 3 - len(dm)) for one in dm.cpu()]
        fock = torch.zeros(self.natm, 3, *dm.shape, dtype=torch.float64)
        inner = torch.zeros(3, *dm.shape, dtype=torch.float64)
        grad = scf.RHF(self._mol).nuc_grad_method()
        core = grad.hcore_generator(self._mol)
        for atom in range(self.natm):
            fock[atom] += as_tensor(core(atom)).unsqueeze(1)
        inner += as_tensor(grad.get_hcore(self._mol)).unsqueeze(1)
        self._add_repulsion(fock, inner, orbitals)
        if self._functional is not None:
            part = moving_semilocal(
                self._functional, self._blocks(), dm.cpu(), self._ao_atoms(), self.natm
            )
            fock += part.fock
            inner += part.inner
        for term in self._spec.corrections.nlc:
            _add_vv10(self._settings, term, total.cpu(), fock, inner)
        return MovingPart(fock.to(dm), inner.to(dm))

    def _symmetric(self, moved: np.ndarray) -> Float[Tensor, "natm 3 nao nao"]:
        """By atom, from [3, nao, nao] with the first orbital's derivative as its atom moves."""
        out = np.zeros((self.natm, *moved.shape))
        for atom, own in enumerate(self._slices):
            out[atom, :, own] = moved[:, own]
            out[atom] += out[atom].transpose(0, 2, 1)
        return as_tensor(out)

    def _ao_atoms(self) -> Tensor:
        sizes = [own.stop - own.start for own in self._slices]
        return torch.repeat_interleave(torch.arange(self.natm), torch.tensor(sizes))

    def _add_repulsion(self, fock: Tensor, inner: Tensor, orbitals: list[np.ndarray]) -> None:
        """J and c_x K; K of a spin is that of its own orbitals."""
        settings, n_spin = self._settings, len(orbitals)
        dms = np.array([c @ c.T for c in orbitals])
        both = [orbitals[0], orbitals[-1]]
        scale = 2.0 if n_spin == 1 else 1.0
        terms: list[tuple[float | None, float]] = [(None, 0.0)]
        terms += list(exchange_terms(self._spec))
        for coefficient, omega in terms:
            fitted = settings.method.density_fit if coefficient is None else settings.fit_exchange
            with self._operator(omega, fitted) as mf:
                found = _of_operator(mf, both, fitted, with_k=coefficient is not None)
                edge = _inner(mf, dms, fitted, with_k=coefficient is not None)
            if coefficient is None:
                fock += as_tensor(found[0]).unsqueeze(2)
                inner += as_tensor(scale * edge.sum(0)).unsqueeze(1)
            else:
                fock -= coefficient * as_tensor(np.stack(found[1][:n_spin], axis=2))
                inner -= coefficient * as_tensor(edge.transpose(1, 0, 2, 3))

    @contextlib.contextmanager
    def _operator(self, omega: float, fitted: bool) -> Iterator[Any]:
        """A mean-field object whose two-electron integrals are those of one operator."""
        mol = self._mol.copy()
        mf: Any = scf.UHF(mol)
        if not fitted:
            with mol.with_range_coulomb(omega):
                yield mf
            return
        mf = mf.density_fit()
        aux = fitting_set(self._settings).mole.copy()
        mf.with_df.auxmol = aux
        with mol.with_range_coulomb(omega), aux.with_range_coulomb(omega):
            yield mf

    def _blocks(self) -> Iterator[MovingBlock]:
        mol, settings = self._mol, self._settings
        grids = settings.grids or build_grid(mol, settings.method.grid_level or 0)
        kind = "LDA" if self._spec.kind == "LDA" else "GGA"
        deriv, ncomp = (1, 4) if kind == "LDA" else (2, 10)
        size = max(BLOCK_VALUES // (ncomp * mol.nao_nr()), 64)
        for atom, (coords, weights, moved) in enumerate(grids_response_cc(with_elements(grids))):
            for start in range(0, len(weights), size):
                some = slice(start, start + size)
                ao = numint.eval_ao(mol, coords[some], deriv=deriv)
                yield MovingBlock(
                    rows=as_tensor(ao.transpose(0, 2, 1)),
                    weights=as_tensor(weights[some]),
                    weight_gradient=as_tensor(moved[:, :, some]),
                    parent=atom,
                )


def _own_matrices(settings: Calculation) -> str | None:
    """The one-electron matrix of a mean-field object that is not PySCF's for its molecule."""
    plain = scf.RHF(settings.mol)
    given = {"get_hcore": settings.hcore, "get_ovlp": settings.ovlp}
    for name, matrix in given.items():
        if matrix is not None and not np.allclose(matrix, getattr(plain, name)(), atol=1e-10):
            return name
    if settings.e_nuc is not None and abs(settings.e_nuc - settings.mol.energy_nuc()) > 1e-10:
        return "energy_nuc"
    return None


def _moves(grids: gen_grid.Grids) -> bool:
    """Whether a grid is made of atomic ones whose weights have derivatives."""
    own_points = grids.coords is not None and grids.atm_idx is None
    return grids.becke_scheme is gen_grid.original_becke and not own_points


def _orbitals(dm: Tensor, electrons: int) -> np.ndarray:
    """Orthonormal occupied orbitals of one electron each, from a spin's density matrix."""
    columns, _ = spectral_factor(dm / electrons)
    return columns.numpy()


def _of_operator(
    mf: Any, orbitals: list[np.ndarray], fitted: bool, *, with_k: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Derivatives of J (both spins) and of K of each spin, [natm, 3, nao, nao]."""
    coeff = tuple(orbitals)
    occ = tuple(np.ones(c.shape[1]) for c in orbitals)
    if fitted:
        made = list(df_hessian._gen_jk(df_hessian.Hessian(mf), coeff, occ, with_k=with_k))  # noqa: SLF001
        vj = np.array([one[2] for one in made])
        if not with_k:
            return vj, []
        return vj, [np.array([one[3][spin] for one in made]) for spin in range(2)]
    return _four_centre(mf.mol, [c @ c.T for c in orbitals])


def _four_centre(mol: gto.Mole, dms: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    vj, vk = [], ([], [])
    for shell0, shell1, start, stop in mol.aoslice_by_atom():
        own = slice(start, stop)
        scripts = []
        for dm in dms:
            scripts += ["ji->s2kl", -dm[:, own], "lk->s1ij", -dm]
            scripts += ["li->s1kj", -dm[:, own], "jk->s1il", -dm]
        where = (shell0, shell1) + (0, mol.nbas) * 3
        found = hessian._get_jk(mol, "int2e_ip1", 3, "s2kl", scripts, shls_slice=where)  # noqa: SLF001
        coulomb = found[0] + found[4]
        coulomb[:, own] += found[1] + found[5]
        vj.append(coulomb + coulomb.transpose(0, 2, 1))
        for spin in range(2):
            exchange = found[4 * spin + 2]
            exchange[:, own] += found[4 * spin + 3]
            vk[spin].append(exchange + exchange.transpose(0, 2, 1))
    return np.array(vj), [np.array(one) for one in vk]


def _inner(mf: Any, dms: np.ndarray, fitted: bool, *, with_k: bool) -> np.ndarray:
    """<∂m|J|n> or <∂m|K|n> of some density matrices, [n, 3, nao, nao]."""
    nao = dms.shape[-1]
    if fitted:
        grad = mf.nuc_grad_method()
        found = df_gradient.get_jk(grad, mf.mol, dms, with_j=not with_k, with_k=with_k)
        return np.asarray(found[1] if with_k else found[0]).reshape(-1, 3, nao, nao)
    made = (gradient.get_jk(mf.mol, dm) for dm in dms)
    return np.array([vk if with_k else vj for vj, vk in made])


def _add_vv10(
    settings: Calculation, term: VV10Parameters, dm: Tensor, fock: Tensor, inner: Tensor
) -> None:
    """VV10's part, its grid moving along; the same for both spins."""
    mol = settings.mol
    mf = dft.rks.RKS(mol)
    mf.nlc = "vv10"
    mf._numint = _OneTerm(term)  # noqa: SLF001
    grids = settings.nlcgrids or build_grid(mol, settings.method.nlc_grid_level or 0)
    if grids.coords is None:
        grids.build()
    mf.nlcgrids = grids
    columns, _ = spectral_factor(dm / 2.0)
    coeff, occ = columns.numpy(), np.full(columns.shape[1], 2.0)
    made = ks_hessian._get_vnlc_deriv1(ks_hessian.Hessian(mf), coeff, occ, 2000)  # noqa: SLF001
    fock += as_tensor(made).unsqueeze(2)
    _, moved = get_nlc_vxc(mf._numint, mol, grids, "vv10", dm.numpy())  # noqa: SLF001
    inner += term.coefficient * as_tensor(np.asarray(moved)).unsqueeze(1)


class _OneTerm(numint.NumInt):
    """PySCF's numerical integration with given VV10 parameters."""

    def __init__(self, term: VV10Parameters) -> None:
        super().__init__()
        self._term = term

    def nlc_coeff(self, xc_code: Any) -> list[Any]:
        """The one term, whatever the functional is."""
        del xc_code
        return [((self._term.b, self._term.c), self._term.coefficient)]
