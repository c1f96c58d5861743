"""A sum of functionals: linear, grouped by thresholds, its derivatives by rows in any direction."""

import dataclasses

import pytest
import torch
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.protocol import NVAR, Functional
from deeph_zero.ks.xc.functional import SemilocalFunctional
from deeph_zero.ks.xc.registry import COMPONENTS, combine

from .rows import K_F


def random_rows(nvar: int, *, n_spin: int = 1, n: int = 40, seed: int = 9) -> Tensor:
    """Physical densities without symmetry."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows = torch.zeros(n_spin, 5, n, dtype=torch.float64)
    rows[:, 0] = torch.exp(2 * random(n_spin, n) - 1)
    rows[:, 1:4] = 1.5 * random(n_spin, 3, n) * rows[:, :1] ** (4 / 3)
    bound = rows[:, 1:4].square().sum(1) / (8 * rows[:, 0])
    rows[:, 4] = bound + random(n_spin, n).exp() * 0.3 * K_F * rows[:, 0] ** (5 / 3)
    return rows[:, :nvar].contiguous()


def test_combination_is_linear_and_merges_duplicates() -> None:
    rho = random_rows(4, n_spin=2)
    parts = [("GGA_X_PBE", 0.3), ("GGA_C_PBE", -0.5), ("LDA_X", 0.2), ("GGA_X_PBE", 0.4)]
    total = combine(parts, unrestricted=True)
    assert len(total.components) == 3
    f, v = total.gradient(rho)
    f_sum, v_sum = torch.zeros_like(f), torch.zeros_like(v)
    for name, coefficient in parts:
        single = combine([(name, 1.0)], unrestricted=True)
        part_f, part_v = single.gradient(rho[:, : NVAR[single.kind]])
        f_sum += coefficient * part_f
        v_sum[:, : NVAR[single.kind]] += coefficient * part_v
    torch.testing.assert_close(f, f_sum, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(v, v_sum, rtol=1e-12, atol=1e-13)


def test_results_are_detached_and_accept_gradients() -> None:
    functional = combine([("GGA_X_PBE", 1.0)], unrestricted=False)
    rho = random_rows(4).requires_grad_()
    with torch.no_grad():
        f, v = functional.gradient(rho)
    second = functional.second(rho, rho)
    assert not f.requires_grad
    assert not v.requires_grad
    assert not second.requires_grad
    torch.testing.assert_close(functional.second(rho, 3 * rho), 3 * second)


def test_it_is_what_a_layer_asks_for() -> None:
    functional = combine([("MGGA_X_TPSS", 1.0), ("LDA_X", 0.1)], unrestricted=False)
    assert isinstance(functional, Functional)
    assert functional.kind == "MGGA"  # the highest of its parts
    polarised = functional.polarised()
    assert polarised.unrestricted
    assert polarised.components == functional.components
    rows = random_rows(5)
    both = torch.cat([rows, rows]) / 2
    torch.testing.assert_close(polarised.gradient(both)[0], functional.gradient(rows)[0])


def test_the_key_tells_values_apart() -> None:
    parts = [("GGA_X_PBE", 0.75), ("GGA_C_PBE", 1.0)]
    one = combine(parts, unrestricted=False)
    assert one.key == combine(parts, unrestricted=False).key
    others = [
        combine(parts, unrestricted=True),
        combine([("GGA_X_PBE", 0.7), ("GGA_C_PBE", 1.0)], unrestricted=False),
        combine(parts[:1], unrestricted=False),
    ]
    assert len({hash(one.key), *(hash(other.key) for other in others)}) == 4


@pytest.mark.parametrize("n_spin", [1, 2])
def test_parts_of_unlike_thresholds_end_one_by_one(n_spin: int) -> None:
    """PBE correlation stops at 1e-12, its exchange at 1e-15 per spin."""
    names = ("GGA_X_PBE", "GGA_C_PBE")
    density = torch.tensor([1e-16, 1e-14, 1e-13, 1e-11], dtype=torch.float64)
    rows = torch.zeros(n_spin, 4, 4, dtype=torch.float64)
    rows[:, 0] = density / n_spin
    both = combine([(name, 1.0) for name in names], unrestricted=n_spin == 2).gradient(rows)[0]
    alone = [combine([(n, 1.0)], unrestricted=n_spin == 2).gradient(rows)[0] for n in names]
    assert [(x != 0).tolist() for x in alone] == [
        [False, True, True, True],
        [False, False, False, True],
    ]
    torch.testing.assert_close(both, sum(alone), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n_spin", [1, 2])
@pytest.mark.parametrize("name", ["LDA_C_PW", "GGA_C_LYP", "MGGA_X_R2SCAN"])
def test_directions_need_not_be_densities(name: str, n_spin: int) -> None:
    """Second and third derivatives along any rows, against differences of the gradient."""
    functional = combine([(name, 1.0)], unrestricted=n_spin == 2)
    nvar = NVAR[functional.kind]
    rows = random_rows(nvar, n_spin=n_spin, n=12)
    size = rows.abs().mean(-1, keepdim=True).clamp(max=0.1) * rows[:, :1]
    d1, d2 = (size * torch.randn(rows.shape, generator=torch.Generator().manual_seed(k),
                                 dtype=torch.float64) for k in (1, 2))  # fmt: skip

    def along(function, d, h=1e-3):
        f = [function(rows + t * h * d) for t in (1, -1, 2, -2)]
        return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h)

    second = functional.second(rows, d1)
    wanted = along(lambda x: functional.gradient(x)[1], d1)
    assert float(second.abs().max()) > 1e-4
    torch.testing.assert_close(second, wanted, rtol=1e-6, atol=1e-8 * float(second.abs().max()))
    third = functional.third(rows, d1, d2)
    wanted = along(lambda x: functional.second(x, d1), d2)
    torch.testing.assert_close(third, wanted, rtol=1e-5, atol=1e-7 * float(third.abs().max()))


def test_written_out_and_automatic_parts_add_up() -> None:
    """A functional of which one half has slopes by hand and the other has not."""
    by_hand, automatic = COMPONENTS["GGA_X_B88"], COMPONENTS["GGA_C_P86"]
    assert by_hand.closed_shell_first is not None
    assert automatic.closed_shell_first is None
    mixed = SemilocalFunctional([(by_hand, 1.0), (automatic, 1.0)], unrestricted=False)
    plain = dataclasses.replace(by_hand, closed_shell_first=None)
    all_automatic = SemilocalFunctional([(plain, 1.0), (automatic, 1.0)], unrestricted=False)
    rows = random_rows(4)
    for one, other in zip(mixed.gradient(rows), all_automatic.gradient(rows), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 1, 5), (2, 4, 5), (1, 5, 5)])
def test_rows_of_another_kind_are_refused(shape: tuple[int, ...]) -> None:
    functional = combine([("GGA_X_PBE", 1.0)], unrestricted=False)
    rows = torch.ones(shape, dtype=torch.float64)
    wanted = rf"expected shape \[1, 4, 'ngrids'\], got \[{shape[0]}, .*pass the rows of a GGA"
    with pytest.raises(InputError, match=wanted):
        functional.gradient(rows)
    with pytest.raises(InputError, match=wanted):
        functional.second(rows, rows)
    with pytest.raises(InputError, match=wanted):
        functional.third(rows, rows, rows)
