"""The uniform grid of a cell as a Fourier mesh: Coulomb potentials and gradients by FFT."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

_AXES = (-3, -2, -1)


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Points and reciprocal vectors of a uniform grid.

    Attributes:
        shape: Points along the three lattice vectors.
        volume: Volume of the cell, bohr³.
        reciprocal: Rows are the reciprocal lattice vectors, 1/bohr.
        kernel: Coulomb kernel 4π/G² (its own form for slabs) on the half spectrum of a real FFT,
            [n1, n2, n3 // 2 + 1]; even in G.
    """

    shape: tuple[int, int, int]
    volume: float
    reciprocal: Float[Tensor, "3 3"]
    kernel: Float[Tensor, "n1 n2 n3half"]

    @property
    def ngrids(self) -> int:
        """Number of points."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def weight(self) -> float:
        """Quadrature weight of every point, bohr³."""
        return self.volume / self.ngrids

    def coulomb(self, rho: Float[Tensor, "*lead ngrids"]) -> Float[Tensor, "*lead ngrids"]:
        """Electrostatic potentials of densities, Eh."""
        return self.inverse(self.forward(rho) * self.kernel)

    def forward(self, field: Tensor) -> Tensor:
        """Half spectrum of real fields [..., ngrids]."""
        return torch.fft.rfftn(field.reshape(*field.shape[:-1], *self.shape), dim=_AXES)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Real fields [..., ngrids] of their half spectrum."""
        field = torch.fft.irfftn(spectrum, s=self.shape, dim=_AXES)
        return field.reshape(*field.shape[:-3], self.ngrids)

    def gradient(self, field: Float[Tensor, "*lead ngrids"]) -> Float[Tensor, "*lead three ngrids"]:
        """∇ of real fields; along an even axis the highest wave has no direction and gets none."""
        spectrum = self.forward(field)
        parts = [self.inverse(1j * g * spectrum) for g in self._wave_vectors()]
        return torch.stack(parts, -2)

    def resample(self, field: Float[Tensor, "*lead nsource"], source: "Mesh") -> Tensor:
        """Fields of a coarser mesh of the same cell, interpolated by their Fourier series.

        Args:
            field: On ``source``; the highest wave along an even axis is left out.
            source: Its mesh, with no more points along any axis.

        Returns:
            On this mesh, [.., ngrids].
        """
        spectrum = source.forward(field)
        shape = (*self.shape[:2], self.shape[2] // 2 + 1)
        out = spectrum.new_zeros(*spectrum.shape[:-3], *shape)
        places = []
        for axis, (n, m) in enumerate(zip(source.shape, self.shape, strict=True)):
            waves = torch.arange(-((n - 1) // 2) if axis < 2 else 0, (n - 1) // 2 + 1)
            places.append((waves % n, waves % m))
        one, other = ([place[i] for place in places] for i in (0, 1))
        own = spectrum[..., one[0][:, None, None], one[1][:, None], one[2]]
        out[..., other[0][:, None, None], other[1][:, None], other[2]] = own
        return self.inverse(out * (self.ngrids / source.ngrids))

    def _wave_vectors(self) -> Tensor:
        """G on the half spectrum, [3, n1, n2, n3half]."""
        device = self.reciprocal.device
        counts = []
        for axis, n in enumerate(self.shape):
            whole = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device=device)
            whole = torch.where(whole == -n / 2, 0.0, whole)
            counts.append(whole[: n // 2 + 1] if axis == 2 else whole)
        grid = torch.stack(torch.meshgrid(*counts, indexing="ij"))
        return torch.einsum("ixyz,ij->jxyz", grid, self.reciprocal)


def half_spectrum(kernel: Float[Tensor, "n1 n2 n3"]) -> Float[Tensor, "n1 n2 n3half"]:
    """What a kernel on all G does to real fields, as an even kernel on the half spectrum.

    The real part of a complex inverse FFT averages the kernel at G and at its mirror image, which
    on an even axis need not be -G.

    Args:
        kernel: In the order of ``torch.fft.fftn``.

    Returns:
        The kernel for :class:`Mesh`.
    """
    mirrored = torch.roll(kernel.flip(0, 1, 2), (1, 1, 1), (0, 1, 2))
    return (0.5 * (kernel + mirrored))[..., : kernel.shape[-1] // 2 + 1].contiguous()
