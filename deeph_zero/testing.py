"""What our tests share with those of anyone who extends the package."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deeph_zero.ao.blocks import ao_rows
from deeph_zero.ao.rotation import ao_rotation
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.molecule import Molecule
from deeph_zero.nn.inputs import PhysicsMatrices, prepare_inputs
from deeph_zero.types import AOMatrix, MoleculeMatrix

if TYPE_CHECKING:
    from pyscf import gto

WATER = "O 0 0 0.1; H 0 0.76 0.58; H 0.05 -0.74 0.61"
"""Water without symmetry, angstrom: no element of any matrix is zero by it."""

SEEN = 1e-4
"""Matrices without an element above this, Eh, test nothing."""

Predictor = Callable[[Molecule, PhysicsMatrices], MoleculeMatrix]
"""The matrix of a molecule, from what a network reads, both in PySCF's AO order."""


class Listener(SilentReporter):
    """Shows nothing and remembers what it was told."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.messages: list[str] = []
        self.warnings: list[str] = []

    def message(self, text: str) -> None:
        """Remember a message."""
        self.messages.append(text)

    def warning(self, text: str) -> None:
        """Remember a warning."""
        self.warnings.append(text)


def distorted_waters(n: int) -> list[Molecule]:
    """Frames of a file that are all different and have no symmetry.

    Args:
        n: How many.

    Returns:
        The first ones of a fixed list.
    """
    rng = np.random.default_rng(3)
    rest = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])
    return [
        Molecule(
            numbers=np.array([8, 1, 1]),
            coords=rest + 0.1 * rng.standard_normal(rest.shape),
            file="w.xyz",
            frame=k,
        )
        for k in range(n)
    ]


def assert_fock_is_gradient(
    energy_and_fock: Callable[[AOMatrix], tuple[Tensor, AOMatrix]],
    dm: AOMatrix,
    *,
    step: float = 1e-3,
    rtol: float = 1e-7,
    seed: int = 0,
) -> None:
    """Check that F is the derivative of E along random symmetric directions, numerically.

    Five-point central differences (error of order step⁴) along directions that scale with the
    density matrix itself, P → P + t (A P + P Aᵀ), so that densities stay sums of orbitals to
    first order.

    Args:
        energy_and_fock: Returns (E, F) at a density matrix, e.g. a ``KohnSham`` layer.
        dm: Symmetric density matrix at which to compare.
        step: Largest displacement t.
        rtol: Relative tolerance on the directional derivative.
        seed: Seed of the random directions.

    Raises:
        AssertionError: If they differ, or if the tested number is zero.
    """
    __tracebackhide__ = True
    generator = torch.Generator().manual_seed(seed)
    _, fock = energy_and_fock(dm)
    for _ in range(3):
        a = 0.1 * torch.randn(dm.shape, generator=generator, dtype=dm.dtype).to(dm.device)
        direction = a @ dm + dm @ a.mT
        points = [float(energy_and_fock(dm + t * step * direction)[0]) for t in (1, -1, 2, -2)]
        numeric = (8 * (points[0] - points[1]) - (points[2] - points[3])) / (12 * step)
        claimed = float((fock * direction).sum())
        if claimed == 0.0:
            raise AssertionError("the tested derivative is zero; choose another density")
        if abs(claimed - numeric) > rtol * max(abs(numeric), 1.0):
            raise AssertionError(
                f"fock is not dE/dP: tr(F dP) = {claimed:.12g} Eh, differences give {numeric:.12g}"
            )


def assert_batch_equals_singles(
    layers: Sequence[KohnSham],
    dms: Sequence[MoleculeMatrix],
    directions: Sequence[MoleculeMatrix] | None = None,
    *,
    strategy: str | None = None,
    atol: float = 1e-10,
) -> None:
    """Check that a batch gives what its molecules give alone: energies, Fock matrices, responses.

    Args:
        layers: The molecules.
        dms: Symmetric density matrix of each.
        directions: Symmetric directions of the responses; None: the densities themselves.
        strategy: "merged" or "padded"; None: the device's.
        atol: Absolute tolerance, Eh.

    Raises:
        AssertionError: If they differ, or if a tested matrix is zero.
    """
    __tracebackhide__ = True
    along = dms if directions is None else directions
    batch = KohnShamBatch(layers, strategy=strategy)
    found, changes = batch.build(dms), batch.response(dms, along)
    for k, (layer, dm, direction) in enumerate(zip(layers, dms, along, strict=True)):
        alone, change = layer.build(dm), layer.response(dm, direction)
        if not bool(alone.fock.any() and change.any()):
            raise AssertionError(f"a tested matrix of molecule {k} is zero; choose another density")
        if found[k].parts.keys() != alone.parts.keys():
            raise AssertionError(f"molecule {k} has other energy terms in a batch")
        pairs = {name: (found[k].parts[name], part) for name, part in alone.parts.items()}
        pairs["n_electrons"] = found[k].n_electrons, alone.n_electrons
        pairs["fock"] = found[k].fock, alone.fock
        pairs["response"] = changes[k], change
        for name, (many, one) in pairs.items():
            worst = float((many - one).abs().max())
            if not worst <= atol:
                raise AssertionError(f"{name} of molecule {k} differs by {worst:.3g} in a batch")


def random_matrices(mol: "gto.Mole", *, n_spin: int = 1, seed: int = 0) -> PhysicsMatrices:
    """What a network reads, in a second: real S and core Hamiltonian, random other matrices.

    Those are symmetric and decay with the overlap; no element is zero or equal to another by a
    symmetry of the molecule.

    Args:
        mol: Built PySCF molecule.
        n_spin: 2 for an open shell.
        seed: Seed of the random numbers.

    Returns:
        S, the core Hamiltonian and three random matrices, [nao, nao] or [2, nao, nao], float64.
    """
    generator = torch.Generator().manual_seed(seed)
    ovlp = torch.as_tensor(mol.intor("int1e_ovlp"))
    lead = () if n_spin == 1 else (n_spin,)

    def some() -> Tensor:
        m = torch.randn(*lead, *ovlp.shape, generator=generator, dtype=torch.float64)
        return (m + m.mT) * ovlp

    hcore = torch.as_tensor(mol.intor("int1e_kin") + mol.intor("int1e_nuc"))
    return PhysicsMatrices(
        ovlp=ovlp, hcore=hcore, dm0=some(), fock0=some(), ddm0=some(), n_spin=n_spin
    )


def assert_equivariant(
    network: torch.nn.Module | Predictor,
    molecule: Molecule,
    matrices: PhysicsMatrices,
    *,
    layout: BasisLayout | None = None,
    cutoff: float | None = None,
    atol: float = 1e-10,
    seed: int = 0,
) -> None:
    """Check that a predicted matrix is Hermitian and moves with the molecule.

    Rotated, reflected, shifted, and with its atoms in another order the molecule must give U H Uᵀ,
    U being what the move does to orbitals. The matrices that the network reads are moved by U too:
    made anew they would differ by the quadrature grid, which turns with no molecule.

    Args:
        network: Takes ``NetworkInputs`` as :class:`FockNetwork` does, in float64; or any function
            of a molecule and its matrices.
        molecule: Without symmetry, best with three unlike atoms or more.
        matrices: What is read, e.g. :func:`random_matrices`.
        layout: Shells of the elements; None: the network's ``spec.layout``.
        cutoff: Cutoff of the inputs, bohr; None: the network's ``spec.cutoff``.
        atol: Absolute tolerance, Eh.
        seed: Seed of the moves.

    Raises:
        AssertionError: If a symmetry is broken (it is named), or if the matrix is zero, as that of
            an untrained network is, and says nothing.
        TypeError: If a function comes without a layout.
    """
    __tracebackhide__ = True
    layout = getattr(getattr(network, "spec", None), "layout", None) if layout is None else layout
    if layout is None:
        raise TypeError("expected layout: the network has no spec to take it from")
    predict = (
        _predictor(network, layout, cutoff) if isinstance(network, torch.nn.Module) else network
    )
    with torch.no_grad():
        before = predict(molecule, matrices)
        if not bool(before.abs().max() > SEEN):
            raise AssertionError("the tested matrix is zero; give the network random weights")
        _assert_close("Hermiticity", before, before.mT, atol)
        for name, u, moved in _moves(molecule, layout, seed):
            turned = {
                key: u @ m @ u.T for key, m in vars(matrices).items() if isinstance(m, Tensor)
            }
            after = predict(moved, dataclasses.replace(matrices, **turned))
            _assert_close(name, after, u @ before @ u.T, atol)


def _predictor(network: torch.nn.Module, layout: BasisLayout, cutoff: float | None) -> Predictor:
    """A network as a function of the molecule."""
    reach: float = network.spec.cutoff if cutoff is None else cutoff  # pyright: ignore

    def predict(molecule: Molecule, matrices: PhysicsMatrices) -> MoleculeMatrix:
        inputs = prepare_inputs(
            layout, molecule.numbers.tolist(), torch.from_numpy(molecule.coords), molecule.charge,
            molecule.spin, matrices, cutoff=reach, dtype=torch.float64,
        )  # fmt: skip
        return network(inputs)[0].to_dense()

    return predict


def _moves(
    molecule: Molecule, layout: BasisLayout, seed: int
) -> list[tuple[str, Tensor, Molecule]]:
    """Name, U, and the moved molecule."""
    generator = torch.Generator().manual_seed(seed)
    numbers, coords = molecule.numbers.tolist(), torch.from_numpy(molecule.coords)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    proper = q * torch.linalg.det(q).sign()
    found = [
        (
            name,
            ao_rotation(layout, numbers, r),
            dataclasses.replace(molecule, coords=(coords @ r.T).numpy()),
        )
        for name, r in (("rotation", proper), ("reflection", -proper))
    ]
    nao = layout.nao(numbers)
    eye = torch.eye(nao, dtype=torch.float64)
    shift = torch.randn(3, generator=generator, dtype=torch.float64)
    shifted = dataclasses.replace(molecule, coords=(coords + shift).numpy())
    found.append(("translation", eye, shifted))
    # two atoms change places, three and more go round
    order = np.roll(np.arange(len(numbers)), 1)
    rows = ao_rows(layout, numbers)
    index = torch.cat([rows[a][rows[a] < nao].sort().values for a in order.tolist()])
    permuted = dataclasses.replace(
        molecule, numbers=molecule.numbers[order], coords=molecule.coords[order]
    )
    return [*found, ("permutation", eye[index], permuted)]


def _assert_close(name: str, found: Tensor, expected: Tensor, atol: float) -> None:
    __tracebackhide__ = True
    worst = float((found - expected).abs().max())
    if not worst <= atol:
        raise AssertionError(f"{name} is broken: H differs by {worst:.3g} Eh, allowed {atol:.3g}")
