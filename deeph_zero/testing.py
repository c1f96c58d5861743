"""What our tests share with those of anyone who extends the package."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from deeph_zero.host.reporting import SilentReporter
from deeph_zero.ks.batch.ks_batch import KSBatch
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.molecule import Molecule
from deeph_zero.types import AOMatrix, MoleculeMatrix


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
        seed: Of the random directions.

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
    layers: Sequence[KohnShamLayer],
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
    batch = KSBatch(layers, strategy=strategy)
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
