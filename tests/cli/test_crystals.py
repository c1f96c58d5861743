"""What crystals, or models of them, do not have is refused by the name of its option."""

import dataclasses
import types

import numpy as np
import pytest

from deeph_zero.cli.crystals import (
    check_evaluating,
    check_predicting,
    check_training_kind,
    say_other_grids,
    say_other_kpoints,
)
from deeph_zero.errors import InputError
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig, PredictConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig
from deeph_zero.settings.crystal_method import ModelCrystals
from deeph_zero.settings.evaluate_config import EvaluateConfig

CARD = {"runtime": {"device": "cuda:1"}}
MOLECULE = Molecule(numbers=np.array([1]), coords=np.zeros((1, 3)), file="m.xyz", frame=2)
CRYSTAL = dataclasses.replace(MOLECULE, lattice=np.eye(3), pbc=(True, True, True), file="c.cif")


def test_a_card_is_refused_with_what_was_asked():
    line = "--device: expected cpu with crystals, got cuda:1"
    with pytest.raises(InputError, match=line):
        check_evaluating(EvaluateConfig.parse(CARD))
    with pytest.raises(InputError, match=line):
        check_predicting(PredictConfig.parse(CARD), crystals=True)
    with pytest.raises(InputError, match=line):
        check_training_kind(FitConfig.parse(CARD), [CRYSTAL])
    check_predicting(PredictConfig.parse(CARD), crystals=False)
    check_evaluating(EvaluateConfig.parse({}))
    assert not check_training_kind(FitConfig.parse(CARD), [MOLECULE])


@pytest.mark.parametrize("order", [[MOLECULE, CRYSTAL], [CRYSTAL, MOLECULE]])
def test_one_run_is_of_one_kind(order):
    with pytest.raises(InputError, match=r"^m.xyz frame 2: expected crystals only beside a cry"):
        check_training_kind(FitConfig(), order)


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"kmesh": "2 2 1"}, "--kmesh"),
        ({"strain": 0.1}, "--strain"),
        ({"smearing": 0.01}, "--smearing"),
        ({"pseudo": "gth-pade"}, "--pseudo"),
        ({"strain": 0.01, "pseudo": "gth-pbe"}, None),  # the defaults, as a file has them
        ({}, None),
    ],
)
def test_molecules_alone_have_no_use_for_settings_of_crystals(values, option):
    config = FitConfig.parse({"crystal": values, "samples": 3})
    if option is None:
        assert not check_training_kind(config, [MOLECULE])
        return
    with pytest.raises(InputError, match=rf"^{option}: expected a crystal \(a cell and pbc\) amo"):
        check_training_kind(config, [MOLECULE])


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"method": {"auxbasis": "weigend"}}, "--auxbasis"),
        ({"method": {"density_fit": False}}, "--density-fit"),
        ({"method": {"grid_level": 1}}, "--grid-level"),
        ({"method": {"break_symmetry": True}}, "--break-symmetry"),
        ({"model": {"elements": ("C",)}}, "--elements"),
        ({"stream": True, "samples": 3}, "--stream"),
        ({"sampling": "normal-modes", "samples": 3}, "--sampling"),
        ({"sampling": "normal-modes", "temperature": 10, "samples": 3}, "--sampling"),
        ({"workers": 2}, "--workers"),
        ({"memory_mb": 9}, "--memory"),
        ({"disk_mb": 9}, "--disk"),
        ({"jk_dtype": "float32"}, "--jk-dtype"),
        ({"devices": 2}, "--devices"),
        ({"budget": "full"}, "--budget"),
        ({"ema": 0.5}, "--ema"),
        ({"closed_form": False}, "--closed-form"),
    ],
)
def test_crystals_have_no_use_for_settings_of_molecules(values, option):
    with pytest.raises(InputError, match=f"^{option}: expected a molecule, got crystals, which"):
        check_training_kind(FitConfig.parse(values), [CRYSTAL])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, None),
        ({"calibration": 0, "workers": 0, "method": {"grid_level": 3}}, None),
        ({"calibration": 19, "samples": 1}, None),
        ({"calibration": 19}, "expected frames twice as many as it keeps out, got 1 and 19; give"),
        ({"loss": "energy"}, "--loss: expected auto or supervised with crystals, got energy; auto"),
        ({"method": {"xc": "pbe0"}}, "^xc='pbe0': expected a semilocal functional for a network"),
        (
            {"loss": "supervised"},
            "data.labels: expected files of labels if and only if the loss is",
        ),
        ({"data": {"labels": ("l.h5",)}}, "if and only if the loss is supervised, got labels with"),
        (
            {"loss": "supervised", "data": {"labels": ("l.h5",)}, "samples": 3},
            "--samples: expected 0 with labels of crystals, got 3: displaced copies have no labels",
        ),
    ],
)
def test_what_a_training_of_crystals_needs(values, words):
    config = FitConfig.parse(values)
    if words is None:
        assert check_training_kind(config, [CRYSTAL, CRYSTAL])
        return
    with pytest.raises(InputError, match=words):
        check_training_kind(config, [CRYSTAL])


@pytest.mark.parametrize(
    ("values", "crystals", "option"),
    [
        ({"response": True}, True, "--response"),
        ({"refine": 1e-5, "compare_start": True}, True, "--compare-start"),
        ({"chkfile": "a"}, True, "--chkfile"),
        ({"molden": "a"}, True, "--molden"),
        ({"cube": ("homo",)}, True, "--cube"),
        ({"crystal": {"kmesh": "2 2 2"}}, False, "--kmesh"),
        ({"crystal": {"smearing": 0.1}}, False, "--smearing"),
        ({"crystal": {"kmesh": "2 2 2"}}, True, None),
        ({"refine": 1e-5, "forces": True}, True, None),
        ({"response": True, "cube": ("homo",)}, False, None),
    ],
)
def test_options_of_a_prediction_are_for_one_kind_of_model(values, crystals, option):
    config = PredictConfig.parse(values)
    if option is None:
        check_predicting(config, crystals=crystals)
        return
    wanted, got = ("molecules", "crystals") if crystals else ("crystals", "molecules")
    words = f"^{option}: expected a model of {wanted}, got one of {got}; leave it out"
    with pytest.raises(InputError, match=words):
        check_predicting(config, crystals=crystals)


class _Trained:
    """A model of crystals with so dense k-points that one cubic bohr has 2 2 2."""

    def settings(self, asked=None):
        return ModelCrystals(
            method=FitConfig().method,
            crystal=SmearedCrystalConfig() if asked is None else asked,
            smearing=0.0,
            spacings=None if asked and asked.kmesh else (np.pi, np.pi, np.pi),
        )


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, []),
        ({"smearing": 0.01}, []),
        ({"kmesh": (2, 2, 2)}, []),
        ({"kmesh": (2, 1, 2)}, ["k-points 2 1 2 are asked for, 2 2 2 are as dense as in training"]),
        ({"kspacing": 2.2}, ["k-points 3 3 3 are asked for, 2 2 2 are as dense as in training"]),
    ],
)
def test_other_kpoints_than_in_training_are_said_once(asked, words):
    said = []
    config = SmearedCrystalConfig.parse(asked)
    say_other_kpoints(_Trained(), [CRYSTAL, CRYSTAL], config, said.append)
    assert len(said) == len(words)
    assert all(line in text and "c.cif" in text for line, text in zip(words, said, strict=True))


@pytest.mark.parametrize("certificate", [True, False])
def test_a_certificate_is_named_where_there_is_one(certificate):
    said = []
    config = SmearedCrystalConfig.parse({"kmesh": (2, 1, 2)})
    say_other_kpoints(_Trained(), [CRYSTAL], config, said.append, certificate=certificate)
    assert ("certificate" in said[0]) is certificate
    assert said[0].endswith("leave kmesh out")


class _Labels:
    """Labels of every crystal but the first, with these grids."""

    def __init__(self, kmesh, fft):
        self._grids = kmesh, fft

    def index(self, molecule):
        return None if molecule.file == "first.cif" else 0

    def check(self, index, method):
        assert index == 0
        assert method.crystal.kmesh[:2] == (2, 2)
        return self._grids


@pytest.mark.parametrize(
    ("kmesh", "fft", "dimension", "words"),
    [
        ((2, 2, 2), (9, 9, 9), 3, []),
        (None, None, 3, []),
        ((2, 1, 2), (9, 9, 9), 3, ["its label is at k-points 2 1 2, 2 2 2 are as dense as in"]),
        ((2, 2, 2), (9, 9, 8), 3, ["of a grid of 9 9 8 points, the model's has 9 9 9: errors con"]),
        ((2, 2, 1), (9, 9, 8), 2, []),
        (
            (2, 3, 1),
            (9, 8, 9),
            2,
            ["k-points 2 3 1, 2 2 1 are", "grid of 9 8 9 points, the model'"],
        ),
    ],
)
def test_labels_of_other_grids_are_said_once(monkeypatch, kmesh, fft, dimension, words):
    fake = types.SimpleNamespace(mesh=np.array([9, 9, 9]))
    monkeypatch.setattr("deeph_zero.integrals.periodic.cell.build_cell", lambda *_: fake)
    crystal = dataclasses.replace(CRYSTAL, pbc=(True, True, dimension == 3))
    first = dataclasses.replace(crystal, file="first.cif")
    said = []
    say_other_grids(_Trained(), [first, crystal, crystal], _Labels(kmesh, fft), said.append)
    assert len(said) == len(words)
    for line, text in zip(words, said, strict=True):
        assert line in text
        assert text.startswith("c.cif frame 2: ")
