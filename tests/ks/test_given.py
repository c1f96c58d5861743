"""What the Python boundary says to matrices and settings that do not fit."""

import numpy as np
import pytest
import torch
from pyscf import gto
from pyscf.pbc import gto as pbc

from deeph_zero import InputError, KohnSham, KohnShamBatch
from deeph_zero.ks.given import by_spin, check_start

NAO = 4
F64 = torch.float64


@pytest.fixture(scope="module")
def layers() -> dict[str, KohnSham]:
    atoms = gto.M(atom="H 0 0 0; H 0.1 0.2 0.9", basis="6-31g", verbose=0)
    cell = pbc.Cell(atom="He 0.1 0 0", a=np.eye(3) * 4, basis="gth-szv", pseudo="gth-pade")
    cell.build(mesh=[11, 11, 11], verbose=0)
    common = {"xc": "lda,vwn", "grid_level": 0}
    return {
        "closed": KohnSham.from_pyscf(atoms, **common),
        "open": KohnSham.from_pyscf(atoms, unrestricted=True, **common),
        "crystal": KohnSham.from_pyscf(cell, xc="lda,vwn", kmesh=(1, 1, 2)),
    }


def matrix(*shape: int, **kind: object) -> torch.Tensor:
    return torch.zeros(shape, **{"dtype": F64, **kind})  # pyright: ignore


WRONG = [
    ("closed", matrix(3, 3), r"shape \[4, 4\] for a closed shell .*, got \[3, 3\]"),
    ("closed", matrix(16), r"shape \[4, 4\] .*, got \[16\]"),
    ("closed", matrix(1, 4, 4), r"shape \[4, 4\] .*, got \[1, 4, 4\]"),
    ("closed", matrix(2, 4, 4), r"got \[2, 4, 4\]; make the layer with unrestricted=True"),
    ("open", matrix(4, 4), r"shape \[2, 4, 4\] for an unrestr.*got \[4, 4\]; give alpha and beta"),
    ("open", matrix(3, 4, 4), r"shape \[2, 4, 4\] .*, got \[3, 4, 4\]"),
    ("closed", matrix(4, 4, dtype=torch.float32), r"of torch.float64, got torch.float32; .*double"),
    ("closed", matrix(4, 4, dtype=torch.int64), r"of torch.float64, got torch.int64"),
    ("closed", matrix(4, 4, dtype=torch.complex128), r"float64, got torch.complex128; .*\.real"),
    ("closed", matrix(4, 4, device="meta"), r"on cpu, got one on meta; use \.to\('cpu'\)"),
    ("closed", np.zeros((4, 4)), r"expected a torch tensor, got ndarray; torch\.as_tensor"),
    ("closed", None, r"expected a torch tensor, got NoneType"),
    ("crystal", matrix(1, 2, 1, 2), r"shape \[1, 2, 1, 1\] .*, got \[1, 2, 1, 2\]"),
    ("crystal", matrix(2, 2, 1, 1), r"shape \[1, 2, 1, 1\] .*, got \[2, 2, 1, 1\]"),
    ("crystal", matrix(1, 2, 1, 1, dtype=torch.complex64), r"got torch.complex64"),
    ("crystal", np.zeros((1, 2, 1, 1)), r"expected a torch tensor, got ndarray"),
]


@pytest.mark.parametrize(("which", "given", "says"), WRONG)
def test_a_matrix_that_does_not_fit_is_refused(layers, which, given, says):
    ks = layers[which]
    before = ks.fock_builds
    right = ks.starting_fock() if which == "crystal" else ks.data.dm_guess
    calls = [
        lambda: ks(given),
        lambda: ks.build(given),
        lambda: ks.density(given),
        lambda: ks.entropy_energy(given),
        lambda: ks.response(given, right),
        lambda: ks.response(right, given),
    ]
    if given is not None:
        calls.append(lambda: ks.scf(given))
    if which == "crystal":
        calls.append(lambda: ks.bands(given))
    else:
        batch = KohnShamBatch([ks, ks])
        pair = [right, given]
        calls += [
            lambda: ks.orbitals(given),
            lambda: ks.dipole(given),
            lambda: ks.certificate(given, right, 0.0),
            lambda: ks.stability(right, given),
            lambda: batch(pair),
            lambda: batch.density(pair),
            lambda: batch.scf(pair),
            lambda: batch.response(pair, pair),
        ]
    for call in calls:
        with pytest.raises(InputError, match=says):
            call()
    assert ks.fock_builds == before


def test_a_batch_names_the_molecule_and_wants_a_list(layers):
    ks = layers["closed"]
    batch = KohnShamBatch([ks, ks])
    with pytest.raises(InputError, match=r"^molecule 1 of the batch: expected .* got \[3, 3\]"):
        batch([ks.data.dm_guess, matrix(3, 3)])
    with pytest.raises(InputError, match="as many matrices, got 1"):
        batch([ks.data.dm_guess])
    with pytest.raises(InputError, match="a list of as many matrices, got generator"):
        batch(x for x in [ks.data.dm_guess] * 2)  # pyright: ignore


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_cycles", 3, "unknown keyword max_cycles, .* did you mean max_cycle"),
        ("max_cycle", "3", "max_cycle as a whole number of 0 or more, got '3'"),
        ("max_cycle", 2.5, "max_cycle as a whole number of 0 or more, got 2.5"),
        ("max_cycle", -1, "max_cycle as a whole number of 0 or more, got -1"),
        ("diis_space", 0, "diis_space as a whole number of 1 or more, got 0"),
        ("conv_tol", 0, "conv_tol as a number above 0, got 0"),
        ("conv_tol", None, "conv_tol as a number above 0, got None"),
        ("conv_tol", float("nan"), "conv_tol as a number above 0, got nan"),
        ("conv_tol_grad", "1e-5", "conv_tol_grad as a number above 0 or None, got '1e-5'"),
        ("dielectric", 1, "dielectric as True or False, got 1"),
        ("degeneracy_tol", -1e-3, "degeneracy_tol as a number of 0 or more, got -0.001"),
    ],
)
@pytest.mark.parametrize("which", ["closed", "crystal"])
def test_a_setting_that_does_not_fit_is_refused(layers, which, name, value, says):
    with pytest.raises(InputError, match=says):
        layers[which].scf(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("damp", 1.0, "damp as a number from 0 to less than 1, got 1.0"),
        ("level_shift", float("inf"), "level_shift as a number of 0 or more, got inf"),
        ("init_guess", 1, "init_guess as a name, got 1"),
        ("init_guess", "huckel", "expected init_guess 'minao' or 'core', got 'huckel'"),
    ],
)
def test_a_setting_of_molecules_is_refused(layers, name, value, says):
    with pytest.raises(InputError, match=says):
        layers["closed"].scf(**{name: value})
    with pytest.raises(InputError, match=says):
        KohnShamBatch([layers["closed"]]).scf(**{name: value})


def test_what_fits_is_taken(layers):
    ks = layers["closed"]
    dm = ks.data.dm_guess
    settings = {"max_cycle": np.int64(20), "conv_tol": 1, "conv_tol_grad": None}
    assert ks.scf(dm, **settings).converged
    assert KohnShamBatch([ks]).scf((dm,), **settings)[0].converged


@pytest.mark.parametrize("like", [np.zeros, torch.zeros])
def test_the_spin_axis_is_put_before_closed_shells_alone(like):
    assert by_spin(like((3, 3)), 2).shape == (1, 3, 3)
    assert by_spin(like((2, 3, 3)), 2).shape == (2, 3, 3)
    assert by_spin(like((2, 2)), 2).shape == (1, 2, 2)  # two orbitals, not two spins
    assert by_spin(like((2, 2)), 1).shape == (2, 2)
    for wrong in ((3,), (3, 4, 4), (1, 2, 4, 4)):
        with pytest.raises(InputError, match=r"closed shell .*got the shape \["):
            by_spin(like(wrong), 2)


@pytest.mark.parametrize(
    ("stated", "more", "says"),
    [
        ({}, {"built": True}, "the density that the first build was made at, got none"),
        ({"leave_saddles": True}, {"smeared": True}, "leave_saddles=True, got smearing"),
        ({"leave_saddles": True, "degeneracy_tol": 1e-3}, {}, "got degeneracy_tol"),
        ({"init_guess": "core", "leave_saddles": True, "degeneracy_tol": 0.0}, {}, None),
        ({"leave_saddles": False}, {"start": True, "built": True, "smeared": True}, None),
    ],
)
def test_each_setting_of_an_scf_acts_on_something(stated, more, says):
    given = {"start": False, "built": False} | more
    if says is None:
        check_start(stated, **given)
        return
    with pytest.raises(InputError, match=says):
        check_start(stated, **given)


def test_layers_say_which_setting_does_not_act(layers, caplog):
    ks = layers["closed"]
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    with caplog.at_level("WARNING", logger="deeph_zero"):
        ks.scf(dm, init_guess="core", max_cycle=1)
    assert "scf: init_guess has no effect beside a starting density" in caplog.text
    with pytest.raises(InputError, match="density that the first build was made at"):
        ks.scf(first_build=ks.build(dm))
