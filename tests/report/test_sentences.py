"""What a report says: every branch of headline, tiles, account and certificate."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from deeph_zero.report import data
from deeph_zero.report.data import Matrices
from deeph_zero.report.sentences import account, certificate, headline, tiles, title


@pytest.mark.parametrize(
    ("entry_changes", "density_fit", "words"),
    [
        ({}, True, "the same basis, fitting set and grid,"),
        ({}, False, "the same basis and grid,"),
        ({"kmesh": [2, 1, 1]}, False, "the same basis, k-points and grid,"),
    ],
)
def test_a_certificate_names_what_there_is(entry_changes, density_fit, words):
    entry = {"energy": -1.0, "orbital_gradient_rms": 1e-4} | entry_changes
    structure = data.Structure(entry=entry)
    source = data.Source(
        path=Path("run"), kind="run", summary_path=Path("summary.json"),
        summary={"density_fit": density_fit}, structures=[structure],
        metrics={}, model={}, hdf5=None,
    )  # fmt: skip
    (text, *_) = certificate(source, structure, None)
    assert words in text


def source(*entries, kind="run", formulas=None, periodic=False, unrestricted=False, **summary):
    structures = [
        data.Structure(
            entry={"file": "a/w.xyz", "frame": k} | entry, unrestricted=unrestricted,
            formula=(formulas or ["H₂O"] * len(entries))[k], periodic=periodic,
        )
        for k, entry in enumerate(entries)
    ]  # fmt: skip
    return data.Source(
        path=Path("run"), kind=kind, summary_path=Path("summary.json"), structures=structures,
        summary={"xc": "pbe", "basis": "sto-3g"} | summary, metrics={}, model={}, hdf5=None,
    )  # fmt: skip


def matrices(spin=0):
    n = 2
    dm = np.eye(n) if not spin else np.stack([np.eye(n), np.diag([1.0, 0.0])])
    return Matrices(
        numbers=np.array([2]), coords=np.zeros((1, 3)), charge=0, spin=spin, basis="",
        overlap=np.eye(n), fock=dm, fock_rebuilt=None, dm=dm, mo_energy=np.zeros(dm.shape[:-1]),
        mo_occ=np.zeros(dm.shape[:-1]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("formulas", "words"),
    [
        (["H₂O"], "H₂O"),
        ([""], "w.xyz:0"),
        (["H₂O", "H₂O"], "2 structures of H₂O"),
        (["H₂O", "", "CH₄"], "3 structures of H₂O, CH₄"),
        (["A", "B", "C", "D"], "4 structures of A, B, C, …"),
        (["", ""], "2 structures"),
        ([], "0 structures"),
    ],
)
def test_the_title_is_the_molecule_or_how_many(formulas, words):
    assert title(source(*({} for _ in formulas), formulas=formulas)) == words


@pytest.mark.parametrize(
    ("entry", "options", "words"),
    [
        (
            {"energy": -1.5, "energy_error_estimate": 2e-6, "converged": True},
            {},
            (
                "Label-free training, pbe/sto-3g. The energy is -1.50000000 Eh; its estimated "
                "error, against self-consistency, is 2.0 µEh. Converged."
            ),
        ),
        (
            {"energy": -1.5, "converged": False},
            {"stopped_by": "max_time", "unrestricted": True},
            (
                "Label-free training, unrestricted pbe/sto-3g. The energy is -1.50000000 Eh. Not "
                "converged; it ended because its time limit was over."
            ),
        ),
        (
            {"energy": -1.5, "refined_energy": -1.25},
            {"kind": "predict"},
            (
                "Prediction by a trained network, pbe/sto-3g. The refined (self-consistent) energy "
                "is -1.25000000 Eh. No convergence was asked for: the numbers are those of the "
                "network's density."
            ),
        ),
        (
            {"converged": False},
            {"kind": "label", "stopped_by": "error", "failed": [{}, {}], "xc": None},
            (
                "Reference data from self-consistent field calculations, ?/sto-3g. No energy was "
                "computed. Not converged. 2 frames failed."
            ),
        ),
        (
            {},
            {"kind": "matrices", "source_format": "hsx", "failed": [{}]},
            "Levels of stored matrices, converted from hsx: 1 structure. 1 frame failed.",
        ),
    ],
)
def test_the_headline_of_one_structure(entry, options, words):
    assert headline(source(entry, **options)) == words


def test_the_headline_of_many_and_of_none():
    entries = [
        {"energy_error_estimate": e, "converged": c}
        for e, c in ((1e-6, True), (9e-6, False), (2e-6, True), (None, None))
    ]
    assert headline(source(*entries, stopped_by="steps")) == (
        "Label-free training, pbe/sto-3g. The median estimated energy error is 2.0 µEh, the "
        "largest 9.0 µEh (w.xyz:1). 2 of 3 reached the tolerance; it ended because the planned "
        "steps were done."
    )
    assert headline(source(*entries[::2])).endswith("(w.xyz:1). All of them converged.")
    assert "No energy error was estimated." in headline(source({}, {}))
    assert headline(source()).endswith("No structure was finished.")


def test_the_numbers_to_see_first():
    entry = {
        "energy": -1.5, "energy_error_estimate": 2e-6, "gap": [0.25, 0.5], "dipole": [0, 3, 4],
        "spin_square": 0.7535,
    }  # fmt: skip
    found = tiles(source(entry, fock_builds=7, wall_time_s=61, device="cpu"), matrices(spin=1))
    assert found == [
        ("Energy", "-1.50000000", "Eh"),
        ("Error estimate", "2.0 µEh", "above self-consistency"),
        ("HOMO–LUMO gap", "0.2500 / 0.5000", "Eh, α / β"),
        ("Dipole", "5.000", "debye"),
        ("⟨S²⟩", "0.7535", "0.75 for a pure spin"),
        ("Fock builds", "7", "all of them counted"),
        ("Time", "1 min 1 s", "on cpu"),
    ]
    refined = tiles(source(entry | {"refined_energy": -2.0}), None)
    assert refined[0] == ("Energy", "-2.00000000", "Eh, refined")
    assert "Error estimate" not in {name for name, *_ in refined}, "the estimate is of another one"
    assert tiles(source({}), None) == [], "what is unknown has no tile"
    many = tiles(source({"energy_error_estimate": 4e-6, "converged": True}, {}), None)
    assert many[:3] == [
        ("Structures", "2", "1 converged"), ("Median error", "4.0 µEh", ""),
        ("Largest error", "4.0 µEh", ""),
    ]  # fmt: skip
    levels = tiles(source({"fermi": 0.25, "gap": None}, kind="matrices"), None)
    assert levels == [("Fermi level", "0.2500", "Eh"), ("Structures", "1", "")]


def test_what_was_asked_reached_and_spent():
    entries = [
        {"orbital_gradient_rms": g, "residual_mae": 1e-4, "converged": True} for g in (1e-6, 3e-6)
    ]
    found = source(
        *entries, density_fit=True, auxbasis="jfit", grid_level=3, loss="auto", fock_builds=7,
        coarse_builds=9, wall_time_s=4.2, device="cpu", threads=2,
        limits={"steps": 9, "epochs": None, "conv_tol_grad": 1e-5},
    )  # fmt: skip
    assert dict(account(found)) == {
        "Asked": "Label-free training for 2 structures: pbe/sto-3g, grid level 3, fitting set "
        "jfit. Loss: auto. Asked for: steps 9, tolerance 1e-05.",
        "Reached": "All of them converged. Orbital gradient at most 3.0 µEh; mean residual of the "
        "Fock matrix at most 100 µEh.",
        "Spent": "4.2 s on cpu with 2 threads, and 7 Fock builds and 9 on the coarse grid (3.5 per "
        "structure): starting matrices, training and certificates are all counted.",
    }


def test_intervals_are_said_of_one_structure():
    entry = {"intervals": {"homo": [[-0.25, -0.23], [-0.5, None]], "gap": "odd"}}
    told = dict(account(source(entry)))
    assert told["Intervals"] == (
        "95 % of converged values lie in theirs: HOMO -0.2500 to -0.2300 Eh."
    )
    assert "Intervals" not in dict(account(source(entry, entry)))
    outside = {"out_of_distribution": ["charge 1"], "intervals": None}
    assert dict(account(source(outside)))["Intervals"] == (
        "Errors and intervals promise nothing for this structure: charge 1."
    )


def test_crystals_and_exact_integrals_state_no_grid_and_no_fitting_set():
    asked = dict(account(source({}, periodic=True, grid_level=3, auxbasis="jfit")))["Asked"]
    assert asked == "Label-free training for 1 structure: pbe/sto-3g."
    odd = source({}, limits=[1], fock_builds="many", threads=None)
    assert dict(account(odd))["Spent"] == "– on ?."
    read = account(source({}, kind="matrices", source="/a/gold.HSX", source_format="hsx"))
    assert read == [
        (
            "Read",
            (
                "Levels of stored matrices, converted from hsx (/a/gold.HSX); no functional was "
                "evaluated."
            ),
        )
    ]


ENTRY = {"energy": -1.5, "orbital_gradient_rms": 2.5e-5, "energy_error_estimate": 4e-7}


@pytest.mark.parametrize("missing", ["energy", "orbital_gradient_rms"])
def test_without_a_build_there_is_no_certificate(missing):
    assert certificate(source(ENTRY), data.Structure(entry=ENTRY | {missing: None}), None) == []


def test_what_is_variational_with_smearing_is_the_free_energy():
    entry = ENTRY | {
        "kmesh": [2, 2, 1], "free_energy": -1.75, "energy_error_estimate": 2e-6,
        "refined_energy": -1.6, "refined_free_energy": -1.750002,
    }  # fmt: skip
    text = " ".join(certificate(source(entry), data.Structure(entry=entry), None))
    assert "gave the free energy -1.75000000 Eh. This free energy is variational" in text
    assert "ended at a free energy of -1.75000200 Eh, 2.0 µEh below: the true error" in text
    assert "The refined (self-consistent) free energy is -1.75000200 Eh." in headline(source(entry))
    assert tiles(source(entry), None)[0] == ("Free energy", "-1.75000200", "Eh, refined")
    plain = entry | {"free_energy": entry["energy"], "refined_free_energy": -1.6}
    assert tiles(source(plain), None)[0] == ("Energy", "-1.60000000", "Eh, refined")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (1e-8, "far below chemical accuracy (43 meV)"),
        (8e-4, "50 % of chemical accuracy"),
        (4.8e-3, "3.0 times chemical accuracy (43 meV): do not use it as it is"),
    ],
)
def test_an_error_is_compared_with_chemical_accuracy(error, words):
    entry = ENTRY | {"energy_error_estimate": error}
    text = " ".join(certificate(source(entry), data.Structure(entry=entry), None))
    assert words in text


@pytest.mark.parametrize(
    ("converged", "words"),
    [
        (True, "small enough for the tolerance"),
        (False, "larger than the tolerance"),
        (None, "not compared with a tolerance"),
    ],
)
def test_the_gradient_is_judged_and_a_way_on_is_named(converged, words):
    entry = ENTRY | {"converged": converged}
    found = certificate(source(entry), data.Structure(entry=entry), None)
    assert words in " ".join(found)
    assert ("deeph-zero predict --refine 1e-5" in found[-1]) is (converged is not True)
    of_label = certificate(source(entry, kind="label"), data.Structure(entry=entry), None)
    assert of_label[0] == "The self-consistent field calculation ended at -1.50000000 Eh."
    assert "--refine" not in " ".join(of_label)


def test_what_is_refined_and_what_is_not_is_said():
    entry = ENTRY | {
        "converged": True, "gap": 0.25, "dipole": [0, 3, 4], "refined_energy": -1.5004,
        "refined_dipole": [0, 0, 1.25],
    }  # fmt: skip
    text = " ".join(certificate(source(entry), data.Structure(entry=entry), None))
    assert "(root mean square), where the refinement began." in text
    assert "tolerance of this calculation" not in text
    shown = {name: (value, note) for name, value, note in tiles(source(entry), None)}
    assert shown["HOMO–LUMO gap"] == ("0.2500", "Eh, before refinement")
    assert shown["Dipole"] == ("1.250", "debye, refined")
    del entry["refined_dipole"]
    assert ("Dipole", "5.000", "debye, before refinement") in tiles(source(entry), None)


@pytest.mark.parametrize(
    ("more", "value", "when"),
    [
        ({}, "0.8000", ""),
        ({"refined_energy": -1.5004}, "0.8000", "before refinement"),
        ({"refined_energy": -1.5004, "refined_spin_square": 0.752}, "0.7520", "refined"),
    ],
)
def test_which_spin_contamination_is_shown_is_said(more, value, when):
    entry = ENTRY | {"spin_square": 0.8} | more
    opened = matrices(spin=1)
    note = "0.75 for a pure spin" + (f", {when}" if when else "")
    assert ("⟨S²⟩", value, note) in tiles(source(entry), opened)
    text = " ".join(certificate(source(entry), data.Structure(entry=entry), opened))
    begin = {"": "⟨", "refined": "After refinement ⟨", "before refinement": "Before refinement ⟨"}
    assert f" {begin[when]}S²⟩ is {value}, a pure spin state has 0.7500: " in text


def test_the_headline_counts_the_unrestricted_ones_where_some_are_not():
    some = source(ENTRY, ENTRY)
    some.structures[1] = dataclasses.replace(some.structures[1], unrestricted=True)
    assert headline(some).startswith("Label-free training, pbe/sto-3g (1 of 2 unrestricted). ")
    both = source(ENTRY, ENTRY, unrestricted=True)
    assert headline(both).startswith("Label-free training, unrestricted pbe/sto-3g. ")


def test_what_the_matrices_add():
    entry = ENTRY | {
        "n_electrons": 3.0002, "spin_square": 0.80, "residual_mae": 1e-4, "degenerate": True,
        "residual_blocks": {"occ-virt": 2e-5}, "refined_energy": -1.500004,
    }  # fmt: skip
    text = " ".join(certificate(source(entry), data.Structure(entry=entry), matrices(spin=1)))
    for words in (
        "counts the 3 electrons to within 0.0002.",
        "Before refinement ⟨S²⟩ is 0.8000, a pure spin state has 0.7500: marked spin",
        "differ by 100 µEh in the average element, by 20 µEh (root mean square) between occupied",
        "break_symmetry=True chooses one.",
        "ended at -1.50000400 Eh, 4.0 µEh below: the true error of the prediction.",
    ):
        assert words in text, words
    pure = ENTRY | {"spin_square": 0.752, "residual_blocks": "odd", "residual_mae": 1e-4}
    text = " ".join(certificate(source(pure), data.Structure(entry=pure), matrices(spin=1)))
    assert "hardly any spin contamination" in text
    assert "between occupied" not in text
    assert "electrons" not in text
