"""Orthonormal basis from a possibly near-singular overlap matrix."""

import torch
from jaxtyping import Float
from torch import Tensor


def orthogonaliser(ovlp: Float[Tensor, "nao nao"], threshold: float) -> Float[Tensor, "nao nmo"]:
    """Matrix X with Xᵀ S X = 1, linearly dependent combinations dropped.

    Symmetric (Löwdin) orthogonalisation S^(-1/2) where every eigenvalue of S is at or above
    ``threshold``; canonical orthogonalisation, with nmo < nao columns, otherwise.

    Args:
        ovlp: Overlap S.
        threshold: Eigenvectors of S with a smaller eigenvalue are dropped; 0 keeps all.

    Returns:
        X, [nao, nmo].

    References:
        P.-O. Löwdin, J. Chem. Phys. 18, 365 (1950), eq. 4; Adv. Quantum Chem. 5, 185 (1970).
    """
    # on the processor, which is asked for the number of columns anyway: one wait for a device
    values, vectors = torch.linalg.eigh(ovlp.cpu())
    keep = values > max(threshold, 0.0)
    if bool(keep.all()):
        return ((vectors * values.rsqrt()) @ vectors.mH).to(ovlp)
    return (vectors[:, keep] * values[keep].rsqrt()).to(ovlp)
