"""Intervals hold what they promise, on made-up errors of known distribution and on real ones."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.method import Method
from deeph_zero.model import Model
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.intervals import (
    LEVEL_TOLERANCE,
    MANY,
    Calibration,
    Sample,
    calibrate,
    calibrated,
    intervals,
    out_of_distribution,
    reach_of,
)
from deeph_zero.predict.record import prediction_record
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.testing import WATER

WATER_COORDS = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])
LEVELS = ("homo", "lumo", "gap")


@pytest.fixture(scope="module")
def model():
    mol = gto.M(atom=WATER, basis="sto-3g", verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny")).eval()
    return Model(network, Method(basis="sto-3g", auxbasis="weigend", grid_level=0))


def _water(shift=0.0, charge=0, spin=0):
    coords = WATER_COORDS + shift * np.array([[0, 0, 0], [0.1, 0.3, 0], [0, 0, 0.2]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, charge=charge, spin=spin)


@pytest.fixture(scope="module")
def example(model):
    return model.predict(_water(), refine=1e-8)


def _made_up(example, rng, noise=1.0):
    """Predictions of very unequal size: errors of the first order in it, of energies second."""
    size = 10.0 ** rng.uniform(-4, -1)
    done, c = example.refined, example.certificate
    homo, lumo = float(done.mo_energy[4]), float(done.mo_energy[5])
    draw = dict(zip(LEVELS, noise * size * rng.normal(size=3), strict=True))
    centre = {"homo": homo, "lumo": lumo, "gap": lumo - homo}
    levels = {k: centre[k] + draw[k] + size for k in LEVELS}
    estimates = {f"{k}_estimate": centre[k] + draw[k] for k in LEVELS}
    change = size * np.array([0.6, 0.0, 0.8])
    left = 0.1 * noise * size**2 * rng.normal()  # the prediction stays an upper bound
    c = dataclasses.replace(
        c,
        energy=done.energy + left + size**2,
        energy_estimate=done.energy + left,
        energy_error_estimate=size**2,
        orbital_gradient_rms=size,
        dipole_change=tuple(change.tolist()),
        **levels,
        **estimates,
    )
    dipole = example.refined_dipole - change + noise * size * rng.normal(size=3)
    return dataclasses.replace(example, certificate=c, dipole=dipole)


def _covered(prediction, found):
    done = prediction.refined
    homo, lumo = float(done.mo_energy[4]), float(done.mo_energy[5])
    truth = {
        "energy": done.energy, "homo": homo, "lumo": lumo, "gap": lumo - homo,
        "dipole": float(np.linalg.norm(prediction.refined_dipole)),
    }  # fmt: skip
    return {name: low <= truth[name] <= high for name, (low, high) in found.items()}


def test_coverage_is_what_was_asked_for(example):
    rng = np.random.default_rng(2)
    found = calibrate([_made_up(example, rng) for _ in range(400)])
    hits = [_covered(p, intervals(p, found)) for p in (_made_up(example, rng) for _ in range(1000))]
    for name in ("energy", *LEVELS, "dipole"):
        assert 0.92 <= np.mean([h[name] for h in hits]) <= 0.98, name


def _one_sided(rng, count):
    """Energies that end above their estimates, as on two grids; one in ten lies below."""
    sizes = 10.0 ** rng.uniform(-5, -3, size=count)
    shares = rng.normal(6e-5, 4.7e-5, size=count)
    levels = dict.fromkeys((*LEVELS, "dipole"), 0.0)
    return [
        Sample(
            errors={"energy": share * size, **levels},
            energy_error=size,
            gradient=size**0.5,
            state=(0, 0),
        )
        for size, share in zip(sizes, shares, strict=True)
    ]


def test_errors_of_energies_have_a_sign():
    """With half of what may be missed at either end the interval is a third narrower."""
    rng = np.random.default_rng(18)
    known, others = _one_sided(rng, 400), _one_sided(rng, 2000)
    found = calibrated(known)
    symmetric = dataclasses.replace(
        found, rule=5, below=None, quantiles=calibrated(known[:38]).quantiles
    )
    assert calibrated(known[:38]).below is None  # two ends of 2.5 % take 39
    assert calibrated(known[:39]).below is not None
    reach = [reach_of("energy", s.energy_error, found) for s in others]
    errors = [s.errors["energy"] for s in others]
    low = np.mean([error < -down for error, (down, _) in zip(errors, reach, strict=True)])
    high = np.mean([error > up for error, (_, up) in zip(errors, reach, strict=True)])
    assert 0.01 < low < 0.04
    assert 0.01 < high < 0.04
    down, up = reach_of("energy", 1e-3, found)
    assert down + up < 0.75 * sum(reach_of("energy", 1e-3, symmetric))
    assert found.to_dict()["guaranteed_coverage"] == pytest.approx([0.95, 0.95 + 2 / 401])


def test_an_estimate_lies_in_its_own_interval():
    """Even where all that calibrates lies above: what is left of a tiny estimate may be nothing."""
    above = [
        dataclasses.replace(s, errors=s.errors | {"energy": abs(s.errors["energy"]) + 1e-9})
        for s in _one_sided(np.random.default_rng(19), 60)
    ]
    assert calibrated(above).below == 0.0


def test_the_smallest_calibration_takes_the_worst_structure(example):
    rng = np.random.default_rng(4)
    known = [_made_up(example, rng) for _ in range(19)]
    found = calibrate(known)
    assert all(all(_covered(p, intervals(p, found)).values()) for p in known)
    with pytest.raises(InputError, match="at least 19 structures"):
        calibrate(known[:18])


def _unlike(rng, count, homo, lumo):
    """Molecules of one kind: how much its two levels are off for the size of the prediction."""
    sizes = 10.0 ** rng.uniform(-5, -3, size=count)
    return [
        Sample(
            errors={
                "energy": 1e-4 * size,
                "homo": abs(homo * rng.normal()) * size**0.5,
                "lumo": abs(lumo * rng.normal()) * size**0.5,
                "gap": abs((homo + lumo) * rng.normal()) * size**0.5,
                "dipole": 0.0,
            },
            energy_error=size,
            gradient=size**0.5,
            state=(0, 0),
        )
        for size in sizes
    ]


def test_molecules_may_have_the_worse_level_above_or_below_the_gap():
    """One kind was calibrated with, of the other it is the HOMO that is known worse."""
    rng = np.random.default_rng(16)
    known = _unlike(rng, 99, homo=1e-3, lumo=3e-3)
    others = _unlike(rng, 400, homo=3e-3, lumo=1e-3)
    several, one = calibrated(known), calibrated(known, unlike=False)

    def held(found, name):
        root = [max(s.energy_error**0.5, found.floors[name]) for s in others]
        return np.mean(
            [s.errors[name] <= found.quantiles[name] * r for s, r in zip(others, root, strict=True)]
        )

    assert several.quantiles["homo"] == several.quantiles["lumo"]
    median = float(np.median([s.energy_error**0.5 for s in known]))
    assert several.floors["homo"] == pytest.approx(median)  # what is left does not shrink below it
    assert several.floors["energy"] == pytest.approx(0.5 * median**2)
    assert 0.92 <= held(several, "homo") <= 0.99
    assert held(one, "homo") < 0.7
    for name in ("energy", "gap", "dipole"):
        assert several.quantiles[name] == one.quantiles[name]


def test_many_molecules_have_a_factor_for_each_level():
    """HOMOs are known better than LUMOs of both kinds: the wider factor would hold all of them."""
    rng = np.random.default_rng(18)
    kinds = {"lumo": 3e-3, "homo": 5e-4}, {"lumo": 2e-3, "homo": 1e-3}
    known, others = ([s for k in kinds for s in _unlike(rng, n, **k)] for n in (MANY // 2, 500))
    many, few = calibrated(known), calibrated(known[1:])
    assert few.quantiles["homo"] == few.quantiles["lumo"]
    assert many == calibrated(known, unlike=False)
    for name in LEVELS:
        root = [max(s.energy_error**0.5, many.floors[name]) for s in others]
        inside = [
            s.errors[name] <= many.quantiles[name] * r for s, r in zip(others, root, strict=True)
        ]
        assert 0.93 <= np.mean(inside) <= 0.98


def test_one_molecule_keeps_a_factor_for_each_level(example):
    rng = np.random.default_rng(17)
    known = [_made_up(example, rng) for _ in range(30)]
    alone = calibrate(known)
    assert alone.quantiles["homo"] != alone.quantiles["lumo"]
    other = dataclasses.replace(known[0].molecule, numbers=np.array([8, 1, 9]))
    mixed = calibrate([dataclasses.replace(known[0], molecule=other), *known[1:]])
    wider = max(alone.quantiles["homo"], alone.quantiles["lumo"])
    assert mixed.quantiles["homo"] == mixed.quantiles["lumo"] >= wider


def test_worse_predictions_get_wider_intervals(example):
    rng = np.random.default_rng(6)
    found = calibrate([_made_up(example, rng) for _ in range(40)])
    made = sorted(
        (_made_up(example, rng) for _ in range(20)),
        key=lambda p: p.certificate.energy_error_estimate,
    )
    for name in ("energy", "homo", "dipole"):
        widths = [np.ptp(intervals(p, found)[name]) for p in made]
        assert np.diff(widths).min() > -1e-13  # where the floor decides they are equal
        assert widths[-1] > 2 * widths[0]


def test_the_energy_interval_ends_at_the_variational_energy(example):
    rng = np.random.default_rng(8)
    found = calibrate([_made_up(example, rng) for _ in range(19)])
    c = example.certificate
    wide = dataclasses.replace(found, quantiles=found.quantiles | {"energy": 1.5})
    low, high = intervals(example, wide)["energy"]
    assert low < c.energy_estimate
    assert high == example.energy  # more than all of its error is none above the prediction
    sure = dataclasses.replace(found, quantiles=found.quantiles | {"energy": 0.25})
    low, high = intervals(example, sure)["energy"]
    half = 0.25 * max(c.energy_error_estimate, found.floors["energy"])
    assert (low, high) == pytest.approx(
        (c.energy_estimate - half - 1e-10, c.energy_estimate + half + 1e-10), abs=2e-11
    )


def test_a_symmetric_calibration_keeps_its_meaning(example):
    """Models in use have it: the energy's interval reached as far down as up."""
    rng = np.random.default_rng(9)
    made = calibrate([_made_up(example, rng) for _ in range(45)]).to_dict()
    assert made["rule"] == 6
    del made["below"]
    old = Calibration.from_dict(made | {"rule": 5})
    c = example.certificate
    half = old.quantiles["energy"] * max(c.energy_error_estimate, old.floors["energy"])
    assert intervals(example, old)["energy"] == pytest.approx(
        [c.energy_estimate - half, min(c.energy_estimate + half, c.energy)], abs=2e-11
    )
    assert old.to_dict()["rule"] == 5
    assert "below" not in old.to_dict()


def test_a_one_sided_calibration_keeps_its_meaning(example):
    """Models in use have it: the energy's interval reaches down by a factor on all of its error."""
    rng = np.random.default_rng(9)
    made = calibrate([_made_up(example, rng) for _ in range(25)]).to_dict()
    old = Calibration.from_dict(
        made | {"rule": 4, "quantiles": made["quantiles"] | {"energy": 1.5}}
    )
    c, found = example.certificate, intervals(example, old)
    down = 1.5 * max(c.energy_error_estimate, old.floors["energy"])
    assert found["energy"] == pytest.approx([c.energy - down, c.energy], abs=2e-11)
    spare = np.ptp(found["homo"]) - np.ptp(intervals(example, Calibration.from_dict(made))["homo"])
    assert spare == pytest.approx(2 * (1e-6 - LEVEL_TOLERANCE), rel=1e-6)
    assert old.to_dict()["rule"] == 4


def test_open_shells_have_intervals_per_spin(model):
    known = [model.predict(_water(0.02 * k, 1, 1), refine=1e-7) for k in range(3)]
    found = calibrate(known, coverage=0.7)
    for p in known:
        got = intervals(p, found)
        done = p.refined
        for spin, nocc in enumerate((5, 4)):
            low, high = got["homo"][spin]
            assert low <= float(done.mo_energy[spin, nocc - 1]) <= high
            low, high = got["lumo"][spin]
            assert low <= float(done.mo_energy[spin, nocc]) <= high


def test_it_survives_json_and_reaches_the_record(model, example):
    rng = np.random.default_rng(10)
    found = calibrate([_made_up(example, rng) for _ in range(25)])
    text = json.loads(json.dumps(found.to_dict()))
    assert Calibration.from_dict(text) == found
    assert text["guaranteed_coverage"] == pytest.approx([0.95, 0.95 + 1 / 26])
    calibrated = Model(model.network, model.method, {"calibration": text})
    result = calibrated.predict(_water(0.1))
    record = prediction_record(result)
    assert record["intervals"] == intervals(result, found)
    assert set(record["intervals"]) == {"energy", "homo", "lumo", "gap", "dipole"}
    assert "intervals" not in prediction_record(model.predict(_water(0.1)))
    assert calibrated.predict(_water(), coupled=False).intervals is None
    with pytest.raises(InputError, match=r"model\.json"):
        Model(model.network, model.method, {"calibration": {"n": 3, "rule": text["rule"]}})


def test_a_calibration_by_another_rule_gives_no_intervals(model, example, caplog):
    rng = np.random.default_rng(10)
    text = calibrate([_made_up(example, rng) for _ in range(25)]).to_dict()
    for values in (text | {"rule": 1}, {k: v for k, v in text.items() if k != "rule"}):
        with caplog.at_level("WARNING", logger="deeph_zero"):
            old = Model(model.network, model.method, {"calibration": values})
        assert "calibrated by another version" in caplog.text
        caplog.clear()
        assert old.predict(_water(0.1)).intervals is None


def test_an_exact_estimate_covers_errors_of_any_size(example):
    """Far beyond the calibration too: the floor must not lend the factor what it lacks there."""
    rng = np.random.default_rng(16)

    def made(size):
        p = _made_up(example, rng)
        c = dataclasses.replace(
            p.certificate,
            energy=p.refined.energy + size,
            energy_estimate=p.refined.energy - 0.01 * size,
            energy_error_estimate=1.01 * size,
        )
        return dataclasses.replace(p, certificate=c)

    found = calibrate([made(10.0 ** rng.uniform(-6, -5)) for _ in range(40)])
    for size in (1e-8, 1e-5, 1e-3, 1e-1):
        p = made(size)
        low, high = intervals(p, found)["energy"]
        assert low <= p.refined.energy + 1e-12 * abs(p.refined.energy)
        assert high >= p.refined.energy
        assert high - low < max(0.03 * size, 1e-7)


def test_widths_follow_the_root_of_the_energy_error(example):
    """Levels and dipole move in the first order of what the energy feels in the second."""
    rng = np.random.default_rng(14)
    known = [_made_up(example, rng) for _ in range(30)]
    found = calibrate(known)
    sizes = [1e-3, 1e-2, 1e-1]  # above the floor
    for name, power in (("energy", 1.0), ("homo", 0.5), ("gap", 0.5), ("dipole", 0.5)):
        widths = []
        for size in sizes:
            c = known[0].certificate
            c = dataclasses.replace(c, energy_error_estimate=size, energy=c.energy_estimate + size)
            widths.append(
                np.ptp(intervals(dataclasses.replace(known[0], certificate=c), found)[name])
                - 2 * {"energy": 1e-10, "dipole": 1e-11}.get(name, LEVEL_TOLERANCE)
            )
        slopes = np.diff(np.log(widths)) / np.diff(np.log(sizes))
        assert slopes == pytest.approx([power] * 2, abs=1e-6), name


def test_what_is_outside_the_calibration_says_so(example):
    rng = np.random.default_rng(12)
    found = calibrate([_made_up(example, rng) for _ in range(25)])
    inside = _made_up(example, rng)
    assert out_of_distribution(inside, found) == []
    far = dataclasses.replace(inside.certificate, orbital_gradient_rms=10 * found.gradient)
    (reason,) = out_of_distribution(dataclasses.replace(inside, certificate=far), found)
    assert "orbital gradient" in reason
    assert "10 times" in reason
    saddle = dataclasses.replace(inside.certificate, stable=False)
    (reason,) = out_of_distribution(dataclasses.replace(inside, certificate=saddle), found)
    assert "curves downwards" in reason
    excited = dataclasses.replace(inside.certificate, aufbau=False)
    (reason,) = out_of_distribution(dataclasses.replace(inside, certificate=excited), found)
    assert "an empty level lies below" in reason
    anion = dataclasses.replace(inside, molecule=_water(charge=-2))
    loose = dataclasses.replace(inside.certificate, homo=0.05)
    reasons = out_of_distribution(dataclasses.replace(anion, certificate=loose), found)
    assert len(reasons) == 2
    assert "charge -2" in reasons[0]
    assert "anion" in reasons[1]


def test_a_level_is_not_known_better_than_its_reference(example):
    """A calibration that happens to hit its references gives no interval below their tolerance."""
    rng = np.random.default_rng(15)
    known = [_made_up(example, rng) for _ in range(30)]
    found = calibrate(known)
    sure = dataclasses.replace(found, quantiles=dict.fromkeys(found.quantiles, 0.0))
    widths = {name: np.ptp(value) for name, value in intervals(known[0], sure).items()}
    assert widths["homo"] == pytest.approx(2e-7, rel=1e-6)
    assert widths["energy"] == pytest.approx(2e-10, rel=1e-2)
