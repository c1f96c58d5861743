"""Labels of crystals: their files, beside molecules, bad frames, and what is asked of them."""

import json

import h5py
import numpy as np
import pytest
import torch
from pyscf.pbc import dft, gto

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.labels import LabelStore
from deeph_zero.data.structures import read_structures
from deeph_zero.errors import InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.integrals.periodic import system
from deeph_zero.jobs import unconverged
from deeph_zero.jobs.crystals import check_crystal, crystal_layer
from deeph_zero.jobs.journal import digest
from deeph_zero.jobs.label import run_label
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import LabelConfig
from deeph_zero.settings.crystal_method import crystal_method

LATTICE = np.array([[3.6, 0, 0], [0, 4.2, 0], [0, 0.1, 4.0]])
SETTINGS = {
    "runtime": {"device": "cpu", "threads": 1},
    "crystal": {"kmesh": (2, 1, 1), "ke_cutoff": 30},
    "conv_tol": 1e-8,
}
METHOD = {"basis": "gth-szv"}


class Reporter(SilentReporter):
    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


def chain(frame=0, **changes) -> Molecule:
    values = {
        "numbers": np.array([1, 1]),
        "coords": np.array([[0, 0, 0.1], [1.5 + 0.05 * frame, 0.1, 0]]),
        "lattice": LATTICE,
        "pbc": (True, True, True),
        "file": "chain.xyz",
        "frame": frame,
    } | changes
    return Molecule(**values)


def settings(method=METHOD, **changes) -> LabelConfig:
    return LabelConfig.parse({**SETTINGS, "method": method, **changes})


def label(tmp_path, molecules, config, **keywords):
    out, reporter = tmp_path / "out.h5", Reporter()
    summary = run_label(
        config, molecules, [], out, reporter=reporter, command="deeph-zero label", **keywords
    )
    return out, summary, reporter.warnings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two cells of different size, and a spin-polarised one."""
    larger = chain(
        numbers=np.array([1, 1, 2]),
        coords=np.array([[0, 0, 0.1], [1.5, 0.1, 0], [3.0, 3.0, 1.6]]),
        lattice=LATTICE * 1.3,
        frame=1,
    )
    magnet = chain(frame=2, moments=(1.0, -1.0))
    folder = tmp_path_factory.mktemp("made")
    return label(folder, [chain(), larger, magnet], settings())


def test_what_a_file_holds(made):
    out, summary, _ = made
    assert summary["converged"]
    assert summary["grid_level"] is summary["auxbasis"] is None
    assert summary["density_fit"] is False
    with h5py.File(out) as handle:
        group = handle["0000"]
        assert group["kpts"].shape == (2, 3)
        assert (np.abs(group["kpts"][()]) <= 0.5).all()
        assert group["kweights"][()].sum() == pytest.approx(1)
        for name in ("fock", "density"):
            assert group[name].shape == (2, 2, 2)
            assert group[name].dtype == np.complex128
            assert handle["0002"][name].shape == (2, 2, 2, 2)
        assert group["mo_energy"].shape == group["mo_occ"].shape == (2, 2)
        np.testing.assert_allclose(group["lattice"][()], LATTICE)
        assert group["pbc"][()].tolist() == [True, True, True]
        assert group["free_energy"][()] == group.attrs["energy"]
        assert group["fermi"][()] == pytest.approx(group.attrs["fermi"])
        assert handle["0001"]["overlap"].shape[-1] == 3
        attributes = dict(group.attrs)
        assert attributes["kmesh"].tolist() == [2, 1, 1]
        assert len(attributes["fft_mesh"]) == 3
        assert (attributes["pseudo"], attributes["gauge"]) == ("gth-pbe", "lattice")
        assert attributes["basis"] == "gth-szv"
        assert handle["0002"]["moments"][()].tolist() == [1, -1]
    entry = summary["structures"][0]
    assert entry["homo"] < entry["fermi"] < entry["lumo"]
    assert entry["gap"] == pytest.approx(entry["lumo"] - entry["homo"], abs=1e-6)
    assert summary["basis"] == "gth-szv"
    assert abs(summary["structures"][2]["moment"]) < 1e-9
    assert json.loads(out.with_suffix(".json").read_text())["structures"] == summary["structures"]


def test_blocks_of_a_file_give_its_matrices(made):
    """H(k) = Σ_R exp(2πi k·R) H(R) at the SCF's own points, of both spins."""
    out, _, _ = made
    with h5py.File(out) as handle:
        for name in ("0000", "0001", "0002"):
            group = handle[name]
            sizes = [1] * len(group["numbers"])
            parts = [
                torch.from_numpy(group[k][()].astype(np.int64))
                for k in ("block_atoms", "block_cells")
            ]
            kpts = torch.from_numpy(group["kpts"][()])
            for blocks, whole in (("blocks", "fock"), ("overlap_blocks", "overlap")):
                matrix = BlockMatrix.packed(*parts, torch.from_numpy(group[blocks][()]), sizes)
                assert matrix.offsets.tolist() == group["block_offsets"][()].tolist()
                np.testing.assert_allclose(matrix.at_k(kpts).numpy(), group[whole][()], atol=2e-6)
            assert group.attrs["blocks_error"] < 1e-5


def test_energy_and_fock_are_pyscfs(made):
    out, summary, _ = made
    with h5py.File(out) as handle:
        group = handle["0000"]
        dm, fock = group["density"][()], group["fock"][()]
        kpts, mesh = group["kpts"][()], group.attrs["fft_mesh"]
    cell = gto.M(
        a=LATTICE, unit="B", atom=[("H", x) for x in chain().coords], basis="gth-szv",
        pseudo="gth-pbe", mesh=mesh, verbose=0,
    )  # fmt: skip
    mf = dft.KRKS(cell, cell.get_abs_kpts(kpts), xc="pbe")
    assert mf.energy_tot(dm) == pytest.approx(summary["structures"][0]["energy"], abs=1e-9)
    np.testing.assert_allclose(mf.get_fock(dm=dm), fock, atol=1e-8)


def test_structures_come_back_as_crystals(made):
    out, _, _ = made
    molecules, bad = read_structures([out], crystals=True)
    assert not bad
    np.testing.assert_allclose(molecules[1].lattice, LATTICE * 1.3)
    assert molecules[2].moments == (1.0, -1.0)
    (layer, *_), _ = read_structures([out], crystals=True, dimension=2, limit=1)
    assert layer.pbc == (True, True, False)
    with pytest.raises(InputError, match="of a crystal"):
        LabelStore([out])


def test_molecules_and_crystals_in_one_call(tmp_path):
    """Each has its own method; a frame that cannot be computed does not stop the others."""
    molecule = Molecule(
        numbers=np.array([1, 1]), coords=np.array([[0, 0, 0], [0, 0.2, 1.4]]), file="h.xyz"
    )
    odd = chain(spin=1, frame=1)
    method = {"basis": "sto-3g", "grid_level": 0, "auxbasis": "weigend"}
    all_electron = {**SETTINGS["crystal"], "pseudo": "none"}
    config = settings(method, smearing=0.01, crystal=all_electron, conv_tol=1e-5)
    _, summary, _ = label(tmp_path, [chain(), odd, molecule], config)
    done = summary["structures"]
    assert [entry["file"] for entry in done] == ["chain.xyz", "chain.xyz", "h.xyz"]
    assert done[0]["pseudo"] is None
    assert done[0]["free_energy"] < done[0]["energy"]
    assert "kmesh" not in done[2]
    assert summary["grid_level"] == 0
    assert not summary["failed"]
    config = settings(conv_tol=1e-5)
    out, summary, _ = label(tmp_path, [odd, chain()], config)
    assert len(summary["structures"]) == 1
    assert "expected an odd number of electrons" in summary["failed"][0]["error"]
    with h5py.File(out) as handle:
        assert list(handle) == ["0000"]


def test_resume_knows_the_cell(tmp_path):
    """What was computed stays; another lattice in its place is refused."""
    config = settings(conv_tol=1e-4, runtime={"device": "cpu", "threads": 1, "max_time": 1e-6})
    _, summary, _ = label(tmp_path, [chain(), chain(1)], config)
    assert summary["stopped_by"] == "max_time"
    config = settings(conv_tol=1e-4)
    _, summary, _ = label(tmp_path, [chain(), chain(1)], config, resume=True)
    assert summary["converged"]
    assert summary["n_structures"] == 2
    assert digest(chain()) != digest(chain(lattice=LATTICE * 1.1))
    assert digest(chain()) != digest(chain(moments=(1.0, -1.0)))
    assert digest(chain()) != digest(chain(pbc=(True, True, False)))


def test_a_cell_that_does_not_converge_is_said(tmp_path):
    _, summary, warnings = label(tmp_path, [chain()], settings(max_cycle=1))
    assert summary["structures"][0]["converged"] is False
    assert any("not converged after 1 cycles" in text for text in warnings)
    assert any(text.endswith(" Eh); use a larger max_cycle") for text in warnings)


def test_a_cell_with_a_small_gap_is_to_be_smeared(tmp_path, monkeypatch):
    monkeypatch.setattr(unconverged, "FEW", 1)
    monkeypatch.setattr(unconverged, "SMALL_GAP", 10.0)
    _, _, warnings = label(tmp_path, [chain()], settings(max_cycle=1))
    assert any(text.endswith(" Eh); use smearing=0.01") for text in warnings)


@pytest.mark.parametrize(
    ("crystal", "pbc", "mesh"),
    [
        ({}, (True, True, True), (7, 6, 7)),
        ({"kspacing": 1.0}, (True, True, True), (2, 2, 2)),
        ({"kspacing": 10}, (True, True, True), (1, 1, 1)),
        ({"kspacing": 0.5}, (True, True, False), (4, 3, 1)),
        ({"kmesh": "3 2 1"}, (True, True, True), (3, 2, 1)),
    ],
)
def test_meshes_of_kpoints(crystal, pbc, mesh):
    """No spacing |b| / n is wider than asked for; 0.25/bohr where nothing is."""
    method = crystal_method(chain(pbc=pbc), LabelConfig.parse({"crystal": crystal}))
    assert method.crystal is not None
    assert method.crystal.kmesh == mesh
    assert method.basis == "gth-dzvp-molopt-sr"
    assert method.crystal.pseudo == "gth-pbe"


@pytest.mark.parametrize(
    ("changes", "config", "word"),
    [
        ({}, {"method": {"basis": "nonsense"}}, "basis set of PySCF with H"),
        ({"numbers": np.array([92, 1])}, {}, "basis set of PySCF with U"),
        ({}, {"crystal": {"pseudo": "nonsense"}}, "GTH pseudopotential of PySCF with H"),
        ({}, {"crystal": {"pseudo": "none"}}, "pseudopotential for H"),
        ({}, {"method": {"xc": "b97m-v"}}, "non-local correlation"),
        ({"spin": 1}, {}, "number of electrons per cell for spin 1, got 2"),
        ({"spin": 4}, {}, "expected electrons"),
        ({"charge": 2}, {}, "expected electrons"),
        ({"charge": -2, "pbc": (True, True, False)}, {}, "neutral layer"),
        ({"lattice": LATTICE * 100}, {}, "million points"),
        ({"pbc": (True, True, False)}, {"crystal": {"kmesh": "1 1 2"}}, "1 along the third"),
        (
            {"coords": np.array([[0, 0, 0.1], [1e-4, 0, 0.1]])},
            {"method": METHOD},
            r"got .*e-.* at k = \(.*basis",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_before(changes, config, word):
    with pytest.raises(InputError, match=word):
        check_crystal(chain(**changes), LabelConfig.parse(config))


def test_the_overlap_that_was_checked_is_the_layers(monkeypatch):
    """Made once for both, of this crystal and no other."""
    made, exact = [], system.overlap

    def overlap(*given):
        made.append(given)
        return exact(*given)

    monkeypatch.setattr(system, "overlap", overlap)
    monkeypatch.setattr(system, "_checked", {})  # other tests may have looked at this crystal
    moved = chain(coords=np.array([[0, 0, 0.1], [0.9, 0.2, 0.1]]))
    check_crystal(chain(), settings())
    method = crystal_method(chain(), settings())
    other = crystal_layer(moved, crystal_method(moved, settings()), device="cpu")
    ks = crystal_layer(chain(), method, device="cpu")
    assert len(made) == 2
    again = crystal_layer(chain(), method, device="cpu")
    assert len(made) == 3
    assert torch.equal(ks.data.ovlp, again.data.ovlp)
    assert not torch.allclose(ks.data.ovlp, other.data.ovlp)


def test_a_file_of_the_name_of_a_pseudopotential_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gth-pbe").write_text("raise SystemExit")
    (tmp_path / "gth-szv").write_text("raise SystemExit")
    check_crystal(chain(), settings())


def test_layers_get_the_box_they_need(tmp_path):
    flat = LATTICE.copy()
    flat[2] = 0
    _, summary, warnings = label(
        tmp_path, [chain(lattice=flat, pbc=(True, True, False))], settings(conv_tol=1e-5)
    )
    assert summary["converged"]
    assert not any("box" in text for text in warnings)
    with h5py.File(tmp_path / "out.h5") as handle:
        assert handle["0000"]["lattice"][2].tolist() == [0, 0, 25]
        assert not handle["0000"]["block_cells"][:, 2].any()
    flat[2, 2] = 12
    said = []
    check_crystal(chain(lattice=flat, pbc=(True, True, False)), settings(), say=said.append)
    (line,) = said
    assert "12.0 bohr high" in line


def test_warnings_of_an_scf_name_the_crystal(tmp_path, caplog):
    """A grid that is coarse is so for all crystals of these elements; a gap is each one's own."""
    coarse = settings(crystal={"kmesh": (1, 1, 1), "ke_cutoff": 12})
    helium = chain(2, numbers=np.array([2, 2]))
    label(tmp_path, [chain(), chain(1), helium], coarse)
    said = [r.getMessage() for r in caplog.records if "grid is coarse" in r.getMessage()]
    assert [line[: line.index(":")] for line in said] == [
        "chain.xyz frame 0", "chain.xyz frame 2",
    ]  # fmt: skip
