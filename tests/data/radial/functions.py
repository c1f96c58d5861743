"""Radial functions for files of pseudopotentials and orbitals."""

import numpy as np

R = np.linspace(0, 3, 301)


SPACING = np.full(301, 0.01)


def carbon(radial_files, **header):
    beta = R * radial_files.gth(0, 1, 0.4, R)
    return radial_files.upf(
        [(0, beta), (1, R * radial_files.gth(1, 1, 0.5, R))],
        np.diag([3.0, 2]),
        R,
        SPACING,
        **header,
    )


def orbital(power=1.0):
    r = np.linspace(0, 6, 601)
    values = np.exp(-power * r**2)
    norm = np.sqrt((values**2 * r**2).sum() * r[1])
    return values / norm
