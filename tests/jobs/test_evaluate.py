"""Every number of the error table against PySCF and NumPy, from the files of label and predict."""

import json
import logging

import h5py
import numpy as np
import pytest
import scipy.linalg
import torch
from pyscf import dft, gto

from deeph_zero.cli.main import entry_point
from deeph_zero.jobs import evaluate
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import model_meta
from deeph_zero.testing import WATER

ATOMS = [
    WATER,
    "O 0 0 0.1; H 0 0.80 0.55; H 0.08 -0.75 0.66",
    "O 0 0 0.1; H 0 0.70 0.58; H -0.05 -0.79 0.60",
]
CHARGES = [(0, 0), (1, 1), (0, 0)]


def xyz():
    out = ""
    for atoms, (charge, spin) in zip(ATOMS, CHARGES, strict=True):
        lines = "\n".join(line.strip() for line in atoms.split(";"))
        out += f"3\ncharge={charge} spin={spin}\n{lines}\n"
    return out


def mean_field(frame):
    charge, spin = CHARGES[frame]
    mol = gto.M(atom=ATOMS[frame], basis="sto-3g", charge=charge, spin=spin, verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc="pbe").density_fit()
    mf.grids.level = 0
    return mf


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A small model, its predictions, labels, and the evaluation of one against the other."""
    from deeph_zero.kohnsham import KohnSham
    from deeph_zero.nn.network import FockNetwork
    from deeph_zero.nn.spec import default_spec
    from deeph_zero.prepared.molecule import basis_layout
    from deeph_zero.settings.config import MethodConfig

    folder = tmp_path_factory.mktemp("evaluate")
    mol = gto.M(atom=ATOMS[0], basis="sto-3g", verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny"))
        for parameter in network.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape)
    network.scales.node_out *= 0.02
    network.scales.pair_out *= 0.02
    method = MethodConfig(basis="sto-3g", grid_level=0)
    info = KohnSham.from_pyscf(mol, grid_level=0).info
    save_model(folder / "run", network, model_meta(method, info, network.spec))
    (folder / "set.xyz").write_text(xyz())
    threads = torch.get_num_threads()
    common = ["--device", "cpu", "--threads", "1", "-q"]
    set_ = str(folder / "set.xyz")
    small = ["--basis", "sto-3g", "--grid-level", "0"]
    labels, predictions = str(folder / "labels.h5"), str(folder / "pred.h5")
    table = folder / "eval.json"
    assert entry_point(["label", set_, "-o", labels, "--conv-tol", "1e-11", *small, *common]) == 0
    assert entry_point(["predict", str(folder / "run"), set_, "-o", predictions, *common]) == 0
    assert entry_point(["evaluate", str(folder / "run"), labels, "-o", str(table), *common]) == 0
    torch.set_num_threads(threads)
    return folder, json.loads(table.read_text())


@pytest.fixture(autouse=True)
def _keep_process(monkeypatch):
    threads, handlers = torch.get_num_threads(), list(logging.getLogger("deeph_zero").handlers)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    yield
    torch.set_num_threads(threads)
    logging.getLogger("deeph_zero").handlers[:] = handlers


def group(path, frame):
    with h5py.File(path) as handle:
        found = handle[f"{frame:04d}"]
        return {k: np.array(v) for k, v in found.items()} | dict(found.attrs)


def spins(matrix):
    return matrix[None] if matrix.ndim == 2 else matrix


@pytest.mark.parametrize("frame", range(3))
def test_energy_dipole_and_matrices(done, frame):
    folder, table = done
    row = table["structures"][frame]
    pred, label = group(folder / "pred.h5", frame), group(folder / "labels.h5", frame)
    mf = mean_field(frame)
    mf.build()
    energy = mf.energy_tot(dm=pred["density"])
    mf.conv_tol = 1e-11
    converged = mf.kernel()
    assert row["energy"] == pytest.approx(energy, abs=1e-9)
    assert row["energy_error"] == pytest.approx(energy - converged, abs=2e-8)
    assert row["energy_error"] > 1e-5, "an untrained network has errors worth comparing"
    dip = [
        mf.dip_moment(dm=dm, unit="Debye", verbose=0) for dm in (pred["density"], mf.make_rdm1())
    ]
    if CHARGES[frame][0]:  # PySCF's origin differs for ions, by the same shift in both
        assert row["dipole_error"] > 0
    assert row["dipole_error"] == pytest.approx(np.linalg.norm(dip[0] - dip[1]), abs=2e-4)
    assert row["fock"]["mae"] == pytest.approx(np.abs(pred["fock"] - label["fock"]).mean())
    rebuilt = mf.get_fock(dm=pred["density"])
    assert row["rebuilt"]["mae"] == pytest.approx(np.abs(rebuilt - mf.get_fock()).mean(), abs=2e-7)


@pytest.mark.parametrize("frame", range(3))
def test_blocks_and_orbital_energies(done, frame):
    folder, table = done
    row = table["structures"][frame]
    pred, label = group(folder / "pred.h5", frame), group(folder / "labels.h5", frame)
    overlap, nelec = pred["overlap"], mean_field(frame).mol.nelec
    for name, matrix in (("fock", pred["fock"]), ("rebuilt", pred["fock_rebuilt"])):
        parts = {"occ-occ": [], "occ-virt": [], "virt-virt": []}
        energies, occupied, homo, lumo, gap = [], [], [], [], []
        for h, ref, n in zip(spins(matrix), spins(label["fock"]), nelec, strict=False):
            e, _ = scipy.linalg.eigh(h, overlap)
            e_ref, c = scipy.linalg.eigh(ref, overlap)
            delta = np.abs(c.T @ (h - ref) @ c)
            parts["occ-occ"].append(delta[:n, :n].ravel())
            parts["occ-virt"].append(delta[:n, n:].ravel())
            parts["virt-virt"].append(delta[n:, n:].ravel())
            error = np.abs(e - e_ref)
            energies.append(error)
            occupied.append(error[:n])
            homo.append(error[n - 1])
            lumo.append(error[n])
            gap.append(abs((e[n] - e[n - 1]) - (e_ref[n] - e_ref[n - 1])))
        for block, values in parts.items():
            assert row[name]["blocks"][block] == pytest.approx(np.concatenate(values).mean())
        for key, values in (
            ("mo_energy_mae", np.concatenate(energies)),
            ("occupied_energy_mae", np.concatenate(occupied)),
            ("homo_mae", homo),
            ("lumo_mae", lumo),
            ("gap_mae", gap),
        ):
            assert row[name][key] == pytest.approx(np.mean(values), abs=1e-10), key


def test_by_element_and_by_orbital(done):
    folder, table = done
    pred, label = group(folder / "pred.h5", 0), group(folder / "labels.h5", 0)
    delta = np.abs(pred["fock"] - label["fock"])
    # STO-3G water in PySCF's order: O 1s 2s 2px 2py 2pz, H 1s, H 1s
    found = table["structures"][0]["fock"]
    expected = {
        "O": delta[:5, :5].mean(),
        "H-O": delta[:5, 5:].mean(),
        "H": np.mean([delta[5, 5], delta[6, 6]]),
        "H-H": delta[5, 6],
    }
    assert found["elements"] == pytest.approx(expected)
    s, p = [0, 1, 5, 6], [2, 3, 4]
    expected = {
        "s-s": delta[np.ix_(s, s)].mean(),
        "s-p": delta[np.ix_(s, p)].mean(),
        "p-p": delta[np.ix_(p, p)].mean(),
    }
    assert found["shells"] == pytest.approx(expected)


@pytest.mark.parametrize("frame", range(3))
def test_subspace_distance_is_the_sine_of_the_principal_angles(done, frame):
    folder, table = done
    pred, label = group(folder / "pred.h5", frame), group(folder / "labels.h5", frame)
    root = scipy.linalg.sqrtm(pred["overlap"]).real
    sines = []
    for h, ref, n in zip(
        spins(pred["fock"]), spins(label["fock"]), mean_field(frame).mol.nelec, strict=False
    ):
        occupied = [root @ scipy.linalg.eigh(m, pred["overlap"])[1][:, :n] for m in (h, ref)]
        sines.append(np.sin(scipy.linalg.subspace_angles(*occupied)))
    expected = np.sqrt(np.mean(np.concatenate(sines) ** 2))
    assert table["structures"][frame]["subspace_distance"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("frame", range(3))
def test_iterations_saved(done, frame):
    folder, table = done
    entry = table["structures"][frame]["scf"]
    mf = mean_field(frame)
    mf.conv_tol = 1e-9
    cycles = []
    for dm0 in (None, group(folder / "pred.h5", frame)["density"]):
        mf.kernel(dm0=dm0)
        assert mf.converged
        cycles.append(mf.cycles)
    # the dielectric step saves iterations, from a good start too, but a cation may go without it
    spare = int(CHARGES[frame][0] == 1)
    assert 2 <= entry["iterations_minao"] < cycles[0] + 2 * spare
    assert 1 <= entry["iterations_model"] <= cycles[1] + spare
    assert entry["builds_minao"] == entry["iterations_minao"] + 1
    # the network's inputs, and the build at its density
    assert entry["builds_model"] == entry["iterations_model"] + 2
    assert entry["saved"] == pytest.approx(1 - entry["builds_model"] / entry["builds_minao"])


def test_estimates_of_the_certificate_against_the_reference(done):
    folder, table = done
    entries = json.loads((folder / "pred.json").read_text())["structures"]
    for frame, (row, entry) in enumerate(zip(table["structures"], entries, strict=True)):
        expected = entry["energy_estimate"] - group(folder / "labels.h5", frame)["energy"]
        assert row["estimates"]["energy_error"] == pytest.approx(expected, abs=1e-8)
        homo, lumo, gap = (row["estimates"][f"{name}_error"] for name in ("homo", "lumo", "gap"))
        assert homo != 0
        if CHARGES[frame][1] == 0:
            assert gap == pytest.approx(lumo - homo, abs=1e-12)
    assert table["errors"]["estimates"]["energy_error"]["max"] >= 0


def test_averages_over_structures(done):
    _, table = done
    rows, errors = table["structures"], table["errors"]
    for value, pooled in (
        ([r["energy_error"] for r in rows], errors["energy_error"]),
        ([r["fock"]["mae"] for r in rows], errors["fock"]["mae"]),
        (
            [r["rebuilt"]["blocks"]["occ-virt"] for r in rows],
            errors["rebuilt"]["blocks"]["occ-virt"],
        ),
        ([r["fock"]["shells"]["s-p"] for r in rows], errors["fock"]["shells"]["s-p"]),
    ):
        size = np.abs(value)
        expected = {"mean": size.mean(), "rms": np.sqrt((size**2).mean()), "max": size.max()}
        assert pooled == pytest.approx(expected)
    cold = sum(r["scf"]["builds_minao"] for r in rows)
    warm = sum(r["scf"]["builds_model"] for r in rows)
    assert errors["scf"] == pytest.approx(
        {"builds_minao": cold, "builds_model": warm, "saved": 1 - warm / cold}
    )
    assert table["fock_builds"] == sum(r["fock_builds"] for r in rows)


def test_structures_are_labelled_on_the_way(done, tmp_path, capfd):
    folder, table = done
    args = ["--device", "cpu", "--threads", "1", "--conv-tol", "1e-11"]
    out = tmp_path / "e.json"
    code = entry_point(
        ["evaluate", str(folder / "run"), str(folder / "set.xyz"), "-o", str(out), "--json", *args]
    )
    printed = json.loads(capfd.readouterr().out)
    assert code == 0
    assert printed == json.loads(out.read_text())
    for mine, theirs in zip(printed["structures"], table["structures"], strict=True):
        for key in ("energy_error", "dipole_error", "subspace_distance"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-8)
        assert mine["fock"]["mae"] == pytest.approx(theirs["fock"]["mae"], rel=1e-4)


def test_table_on_the_terminal(done, tmp_path, capfd):
    folder, table = done
    args = ["--device", "cpu", "--threads", "1", "--no-scf", "-o", str(tmp_path / "e.json")]
    code = entry_point(["evaluate", str(folder / "run"), str(folder / "labels.h5"), *args])
    out = capfd.readouterr().out
    assert code == 0
    energy = table["errors"]["energy_error"]["mean"] * 1e6
    line = next(line for line in out.splitlines() if line.startswith("energy E[P(H)]"))
    assert float(line.split()[3]) == pytest.approx(energy, rel=1e-2)
    for words in ("H, virt-virt", "H~ = F[P(H)]", "occupied space", "H-O", "s-p", "labels.h5:2"):
        assert words in out
    assert "saved" not in out
    assert "scf" not in json.loads((tmp_path / "e.json").read_text())["errors"]


def test_a_failing_structure_is_listed_and_the_others_are_done(done, tmp_path, capfd):
    folder, _ = done
    broken = tmp_path / "broken.h5"
    broken.write_bytes((folder / "labels.h5").read_bytes())
    with h5py.File(broken, "r+") as handle:
        handle["0001/fock"][0, 0, 0] = np.nan
    out = tmp_path / "e.json"
    args = ["--device", "cpu", "--threads", "1", "--no-scf", "-o", str(out)]
    code = entry_point(["evaluate", str(folder / "run"), str(broken), *args])
    err = capfd.readouterr().err
    assert code == 1
    assert "broken.h5 frame 1" in err.splitlines()[-1]
    result = json.loads(out.read_text())
    assert [f["frame"] for f in result["failed"]] == [1]
    assert [r["frame"] for r in result["structures"]] == [0, 2]
    assert not result["converged"]


def test_labels_of_another_method_are_wrong_input(done, tmp_path, capfd):
    folder, _ = done
    other = tmp_path / "other.h5"
    other.write_bytes((folder / "labels.h5").read_bytes())
    with h5py.File(other, "r+") as handle:
        handle["0002"].attrs["xc"] = "pbe0"
    out = tmp_path / "e.json"
    args = ["evaluate", str(folder / "run"), str(other), "--no-scf", "-o", str(out)]
    assert entry_point(args) == 1, "one label costs its structure, not the others"
    words = "other.h5 frame 2: expected a label of the same method, got xc 'pbe0'"
    assert words in capfd.readouterr().err
    result = json.loads(out.read_text())
    assert [f["frame"] for f in result["failed"]] == [2]
    assert [r["frame"] for r in result["structures"]] == [0, 1]
    out.unlink()
    with h5py.File(other, "r+") as handle:
        for group in handle.values():
            group.attrs["xc"] = "pbe0"
    code = entry_point(args)
    err = capfd.readouterr().err
    assert code == 2
    assert "frame 0: expected a label of the same method, got xc 'pbe0'" in err
    assert len(err.splitlines()) == 1
    assert not out.exists()
    (tmp_path / "kept.json").write_text("{}")
    args = ["evaluate", str(folder / "run"), str(folder / "labels.h5"), "-o"]
    assert entry_point([*args, str(tmp_path / "kept.json")]) == 2
    assert entry_point([*args, str(tmp_path / "table.txt")]) == 2
    assert entry_point([*args, str(folder / "labels.h5")]) == 2


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("labels.h5", "use a larger --max-cycle or --no-scf, as it has a label"),
        ("set.xyz", "use a larger --max-cycle"),
    ],
)
def test_an_scf_that_does_not_converge_says_what_helps(done, tmp_path, capfd, name, end):
    folder, _ = done
    args = ["evaluate", str(folder / "run"), str(folder / name), "--max-cycle", "1"]
    assert entry_point([*args, "-o", str(tmp_path / "e.json")]) == 1
    line = capfd.readouterr().err.splitlines()[-1]
    assert "did not converge in 1 cycles: orbital gradient " in line
    assert f" Eh; {end}; see 'failed'" in line


@pytest.mark.parametrize("case", [(1, 130, 1), (3, 0, 3)])
def test_ctrl_c_ends_behind_the_structure_and_not_where_it_is_the_last(
    done, tmp_path, ctrl_c_in, case
):
    folder, _ = done
    nth, code, rows = case
    out = tmp_path / "e.json"
    args = ["evaluate", str(folder / "run"), str(folder / "labels.h5"), "--no-scf"]
    with ctrl_c_in(evaluate, "_row", nth):
        assert entry_point([*args, "-o", str(out)]) == code
    assert len(json.loads(out.read_text())["structures"]) == rows
