"""Meshes of k-points: PySCF's points, of which one of k and -k may be enough."""

import numpy as np
import pytest

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.kpoints import KPoints, listed_kpoints, make_kpoints


def _position(points, k):
    distance = points - k
    return int(np.abs(distance - np.round(distance)).max(-1).argmin())


@pytest.mark.parametrize(
    ("kmesh", "shifted", "time_reversal", "number"),
    [((2, 2, 2), False, True, 8), ((2, 2, 2), True, True, 4), ((3, 3, 1), False, True, 5),
     ((4, 1, 3), True, False, 12)],
)  # fmt: skip
def test_k_points_are_pyscfs(kmesh, shifted, time_reversal, number, crystal):
    cell = crystal("helium")
    made = make_kpoints(kmesh, shifted=shifted, time_reversal=time_reversal)
    assert len(made.scaled) == number
    assert made.scaled.max() <= 0.5
    assert made.scaled.min() > -0.5
    theirs = cell.get_scaled_kpts(cell.make_kpts(kmesh, with_gamma_point=not shifted))
    weight = {}
    for k, w in zip(made.scaled, made.weights, strict=True):
        twin = not (time_reversal and w > 1.5 / len(theirs))
        for q in (k,) if twin else (k, -k):
            weight[_position(theirs, q)] = w / (1 if twin else 2)
    assert sorted(weight) == list(range(len(theirs)))
    np.testing.assert_allclose(list(weight.values()), 1 / len(theirs))


@pytest.mark.parametrize("shifted", [False, True])
def test_partners_are_minus_k(shifted):
    made = make_kpoints((4, 3, 2), shifted=shifted)
    away = made.scaled + made.partners
    np.testing.assert_allclose(away, np.round(away), atol=1e-12)
    own = made.self_conjugate
    np.testing.assert_allclose(made.weights, np.where(own, 1, 2) / 24)
    assert made.weights.sum() == pytest.approx(1)
    assert not made.real


def test_where_matrices_are_real():
    assert make_kpoints((2, 1, 2)).real
    assert not make_kpoints((3, 1, 1)).real
    assert not make_kpoints((2, 1, 1), time_reversal=False).real
    assert KPoints(scaled=np.zeros((1, 3)), weights=np.ones(1)).real
    assert not KPoints(scaled=np.array([[0.5, 0, 0]]), weights=np.ones(1)).real


def test_listed_points_stay_as_they_are(crystal):
    cell = crystal("helium")
    wanted = np.array([[0.7, -0.2, 0.1], [0.0, 0.5, -0.4]])
    found = listed_kpoints(cell, cell.get_abs_kpts(wanted))
    np.testing.assert_allclose(found.scaled, wanted, atol=1e-12)
    assert found.weights.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(found.absolute(cell), cell.get_abs_kpts(wanted), atol=1e-12)


@pytest.mark.parametrize("kmesh", [(2, 2), (0, 1, 1), (2, -1, 1)])
def test_what_is_no_mesh_is_named(kmesh):
    with pytest.raises(InputError, match="kmesh expected three positive whole numbers"):
        make_kpoints(kmesh)


def test_a_mesh_without_end_is_refused_before_it_is_made():
    with pytest.raises(InputError, match="at most 1000000 k-points in all, got 27000000 of kmesh="):
        make_kpoints((300, 300, 300))
    many = make_kpoints((60, 50, 40))
    assert many.weights.sum() == pytest.approx(1)
    assert len(many.scaled) == (120_000 - 8) // 2 + 8  # eight points are their own -k


def test_a_layer_has_no_k_points_across():
    assert len(make_kpoints((2, 2, 1), dimension=2, time_reversal=False).scaled) == 4
    with pytest.raises(InputError, match=r"kmesh|periodic"):
        make_kpoints((2, 2, 2), dimension=2)
