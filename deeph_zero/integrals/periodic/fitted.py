"""Crystals by Gaussian density fitting: PySCF's fitted integrals, atom-centred points."""

import dataclasses
from typing import Any, NoReturn, final

import numpy as np
import torch
from pyscf.pbc import df, gto
from pyscf.pbc.dft import gen_grid
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.integrals.libxc import XCSpec
from deeph_zero.integrals.periodic.exchange import fractions, whole_mesh
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.ks.periodic.terms.fitted_coulomb import FittedCoulomb
from deeph_zero.ks.periodic.types import BlochMatrix, KWeights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitting:
    """How a crystal is computed by density fitting.

    Attributes:
        with_df: PySCF's object, at the layer's k-points.
        grids: Points of exchange and correlation.
    """

    with_df: Any
    grids: Any


def make_fitting(cell: gto.Cell, kpoints: KPoints) -> Fitting:
    """PySCF's own choice for a cell.

    Args:
        cell: The crystal.
        kpoints: Where.

    Returns:
        A GDF of its default auxiliary basis, for Coulomb alone, and Becke's grids.
    """
    _, whole = whole_mesh(kpoints)  # PySCF's cutoffs depend on all of it
    with_df = df.GDF(cell, cell.get_abs_kpts(whole))
    return Fitting(with_df=with_df, grids=gen_grid.BeckeGrids(cell))


def fitted_coulomb(
    fitting: Fitting, kpoints: KPoints, weights: KWeights, *, real: bool, pairs: bool
) -> FittedCoulomb:
    """PySCF's tensors of every k-point.

    Args:
        fitting: What makes them; it is built where it is not.
        kpoints: Where.
        weights: w_k.
        real: Give real tensors (every k is like Γ).
        pairs: Build those of pairs of k-points too, for exchange; RSGDF cannot add them later.

    Returns:
        The term.
    """
    with_df, device = fitting.with_df, weights.device
    nao = with_df.cell.nao
    if with_df._cderi is None:  # noqa: SLF001
        with_df.build(j_only=not pairs)
    tensors, signs = [], []
    for kpt in kpoints.absolute(with_df.cell):
        pieces, own = [], []
        for real_part, imaginary, sign in with_df.sr_loop((kpt, kpt), compact=False):
            piece = np.asarray(real_part) + 1j * np.asarray(imaginary)
            pieces.append(piece.reshape(-1, nao, nao))
            own.append(np.full(len(piece), float(sign)))
        tensor = np.concatenate(pieces)
        tensors.append(torch.from_numpy(np.real(tensor).copy() if real else tensor).to(device))
        signs.append(np.concatenate(own))
    return FittedCoulomb(tensors, torch.from_numpy(signs[0]).to(device), weights)


def fixed_by_fitting(fitting: Fitting, kpoints: KPoints) -> np.ndarray:
    """Kinetic energy, nuclei and pseudopotentials of a fitting, [nk, nao, nao], Eh."""
    cell = fitting.with_df.cell
    kpts = np.reshape(fitting.with_df.kpts, (-1, 3))
    attraction = fitting.with_df.get_pp if cell.pseudo else fitting.with_df.get_nuc
    total = np.asarray(attraction(kpts)) + np.asarray(cell.pbc_intor("int1e_kin", 1, 1, kpts))
    if len(cell._ecpbas):  # noqa: SLF001
        from pyscf.pbc.gto import ecp

        total = total + np.asarray(ecp.ecp_int(cell, kpts))
    away = np.abs(kpoints.absolute(cell)[:, None] - kpts).max(-1)
    return total[away.argmin(-1)]


@final
class FittedExchange:
    """K by PySCF's fitted integrals; implements ``ks.periodic.exchange.Exchange``."""

    def __init__(
        self, fitting: Fitting, spec: XCSpec, exxdiv: str | None, kpoints: KPoints
    ) -> None:
        """Nothing is computed yet.

        Args:
            fitting: What makes the integrals.
            spec: The functional.
            exxdiv: PySCF's name of the treatment at G + q = 0, or None.
            kpoints: Those of the layer.
        """
        self._origins, scaled = whole_mesh(kpoints)
        cell = fitting.with_df.cell
        self._kpts = cell.get_abs_kpts(scaled)
        self._df = fitting.with_df
        self._parts = fractions(spec)
        self._exxdiv = exxdiv

    def __getstate__(self) -> NoReturn:
        """Refuse to be copied.

        Raises:
            InputError: Always: PySCF's integrals are in a file that is theirs alone.
        """
        raise InputError(
            "expected a layer to copy or to send to another process, got one of a hybrid with "
            "fitted integrals, which are in a temporary file of this process; make it again with "
            "KohnSham.from_pyscf"
        )

    def __call__(self, dm: BlochMatrix) -> BlochMatrix:
        """The fraction of K[dm]."""
        whole = [dm[:, i].conj() if conjugate else dm[:, i] for i, conjugate in self._origins]
        given = torch.stack(whole, 1).cpu().resolve_conj().to(torch.complex128).numpy()
        total = np.zeros_like(given)
        for omega, fraction in self._parts:
            _, k = self._df.get_jk(
                given, kpts=self._kpts, with_j=False, omega=omega or None, exxdiv=self._exxdiv
            )
            total = total + fraction * np.asarray(k).reshape(given.shape)
        first = [at for at, (_, conjugate) in enumerate(self._origins) if not conjugate]
        out = torch.from_numpy(total[:, first]).to(dm.device)
        out = 0.5 * (out + out.mH)
        return out if dm.is_complex() else out.real.contiguous()


def points_of(fitting: Fitting) -> tuple[np.ndarray, Tensor]:
    """Points (bohr) and their quadrature weights."""
    grids = fitting.grids
    if grids.coords is None:
        grids.build()
    return np.asarray(grids.coords), torch.from_numpy(np.asarray(grids.weights))
