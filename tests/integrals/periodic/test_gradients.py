"""Forces and stress of crystals by finite differences of the energy; what is refused."""

import numpy as np
import pytest

import deeph_zero as dz
from deeph_zero.errors import InputError

CASES = {
    "PBE, half of the mesh": ("diamond", {"xc": "pbe", "kmesh": (3, 1, 1)}),
    "LDA, spins, smearing": ("chain", {"xc": "lda,vwn", "kmesh": (3, 1, 1), "smearing": 0.02,
                                       "unrestricted": True, "moments": (1, -1)}),
    "PBE0": ("diamond", {"xc": "pbe0", "kmesh": (2, 1, 1)}),
}  # fmt: skip

STEP = 1e-3


def _solved(cell, keywords):
    ks = dz.KohnSham.from_pyscf(cell, **keywords)
    result = ks.scf(conv_tol=1e-11, two_grids=False)
    assert result.converged
    return ks, result


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_forces_are_derivatives(case, crystal):
    name, keywords = CASES[case]
    cell = crystal(name, ke_cutoff=25)
    ks, result = _solved(cell, keywords)
    forces = ks.forces(result)
    assert forces.shape == (cell.natm, 3)
    direction = np.array([0.3, -0.5, 0.7])
    energies = []
    for sign in (1, -1):
        coords = cell.atom_coords()
        coords[1] += sign * STEP * direction
        moved = cell.copy().set_geom_(coords, unit="B", inplace=False)
        moved.mesh, moved.rcut = cell.mesh, cell.rcut
        energies.append(_solved(moved, keywords)[1].free_energy)
    numeric = -(energies[0] - energies[1]) / (2 * STEP)
    assert abs(numeric) > 1e-3
    # PySCF's non-local forces are analytic sums, its energy's end where the mesh does
    assert float(forces[1].numpy() @ direction) == pytest.approx(numeric, abs=2e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stress_is_a_derivative(crystal):
    cell = crystal("diamond", ke_cutoff=30, precision=1e-7)
    keywords = {"xc": "pbe", "kmesh": (2, 1, 1)}
    ks, result = _solved(cell, keywords)
    stress = ks.stress(result).numpy()
    np.testing.assert_allclose(stress, stress.T)
    strain = np.array([[0.4, 0.3, 0.0], [0.3, -0.2, 0.1], [0.0, 0.1, 0.5]])
    energies = []
    for sign in (1, -1):
        lattice = cell.lattice_vectors() @ (np.eye(3) + sign * STEP * strain)
        moved = cell.copy()
        moved.unit, moved.a = "B", lattice
        places = cell.get_scaled_atom_coords() @ lattice
        moved.atom = [(cell.atom_symbol(i), x.tolist()) for i, x in enumerate(places)]
        moved.mesh = cell.mesh
        moved.build(False, False)
        energies.append(_solved(moved, keywords)[1].energy)
    numeric = (energies[0] - energies[1]) / (2 * STEP) / cell.vol
    assert float((stress * strain).sum()) == pytest.approx(numeric, abs=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
def test_what_is_refused(crystal):
    cell = crystal("diamond", ke_cutoff=10)
    bare = dz.KohnSham.from_pyscf(crystal("helium"), xc="lda,vwn")
    with pytest.raises(InputError, match="without pseudopotentials"):
        bare.forces(bare.scf(max_cycle=1))
    for keywords, message in [
        ({"xc": "r2scan"}, "meta-GGA"),
        ({"xc": "hse06"}, "range separation"),
    ]:
        ks = dz.KohnSham.from_pyscf(cell, **keywords)
        result = ks.scf(max_cycle=1)
        for function in (ks.forces, ks.stress):
            with pytest.raises(InputError, match=message):
                function(result)
    ks = dz.KohnSham.from_pyscf(cell, xc="pbe0")
    with pytest.raises(InputError, match="stress of crystals with exact exchange"):
        ks.stress(ks.scf(max_cycle=1))
    fitted = dz.KohnSham.from_pyscf(crystal("helium"), xc="lda,vwn", density_fit=True)
    with pytest.raises(InputError, match="density fitting"):
        fitted.forces(fitted.scf(max_cycle=1))
    slab = dz.KohnSham.from_pyscf(crystal("slab", dimension=2, ke_cutoff=10), xc="lda,vwn")
    with pytest.raises(InputError, match="dimension 2"):
        slab.forces(slab.scf(max_cycle=1))
