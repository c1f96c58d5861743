"""Exchange functionals from their closed-shell form: exact spin scaling, empty channels, slopes."""

import pytest
import torch

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised
from deeph_zero.ks.xc.registry import COMPONENTS

LOW = 1e-9


def made_up(rho, rho13, sigma, tau):
    """Of all four arguments, each in another power."""
    torch.testing.assert_close(rho13, rho ** (1 / 3))
    return -(rho**2) - 0.3 * sigma / rho - 0.1 * tau * rho


def made_up_first(d):
    values = made_up(d.rho, d.rho13, d.sigma, d.tau)
    by_rho = -2 * d.rho + 0.3 * d.sigma / d.rho**2 - 0.1 * d.tau
    return values, by_rho, -0.3 / d.rho, -0.1 * d.rho


@pytest.fixture
def component():
    return exchange_component("X", 0, "MGGA", made_up, threshold=LOW, first=made_up_first)


def spins(rho_a=(0.3, 0.8), rho_b=(0.1, 2.0)):
    values = [
        torch.tensor(x, dtype=torch.float64)
        for x in (rho_a, rho_b, (0.2, 0.5), (-0.1, 0.3), (0.4, 0.6), (0.7, 0.9), (0.5, 1.1))
    ]
    return Polarised(values[0] > -1, LOW, *values)


def test_each_spin_is_half_a_closed_shell_of_twice_its_density(component):
    d = spins()
    a = made_up(2 * d.rho_a, (2 * d.rho_a) ** (1 / 3), 4 * d.sigma_aa, 2 * d.tau_a) / 2
    b = made_up(2 * d.rho_b, (2 * d.rho_b) ** (1 / 3), 4 * d.sigma_bb, 2 * d.tau_b) / 2
    torch.testing.assert_close(component.polarised(d), a + b, rtol=1e-13, atol=0)


def test_equal_spins_are_the_closed_shell(component):
    rho, sigma, tau = (torch.tensor([x], dtype=torch.float64) for x in (0.8, 0.4, 1.2))
    half = [rho / 2] * 2, [sigma / 4] * 3, [tau / 2] * 2
    both = Polarised(rho > 0, LOW, *half[0], *half[1], *half[2])
    one = ClosedShell(rho > 0, LOW, rho, sigma, tau)
    torch.testing.assert_close(component.polarised(both), component.closed_shell(one))


def test_slopes_of_spins_are_derivatives(component):
    d = spins()
    names = ("rho_a", "rho_b", "sigma_aa", "sigma_ab", "sigma_bb", "tau_a", "tau_b")
    leaves = [getattr(d, name).clone().requires_grad_() for name in names]
    energy = component.polarised(Polarised(d.alive, LOW, *leaves))
    wanted = torch.autograd.grad(energy.sum(), leaves, materialize_grads=True)
    value, *found = component.polarised_first(d)
    torch.testing.assert_close(value, energy.detach(), rtol=1e-13, atol=0)
    for name, one, other in zip(names, found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=0, msg=name)
    assert not found[3].any()  # nothing depends on the product of the gradients


@pytest.mark.parametrize("spin", [0, 1])
def test_an_empty_channel_gives_nothing(component, spin):
    empty = (LOW, LOW / 2)
    d = spins(**{"rho_b" if spin else "rho_a": empty})
    other = d.channel(1 - spin)
    alone = 0.5 * made_up(other.rho, other.rho13, other.sigma, other.tau)
    torch.testing.assert_close(component.polarised(d), alone, rtol=1e-13, atol=0)
    first = component.polarised_first(d)
    torch.testing.assert_close(first[0], alone, rtol=1e-13, atol=0)
    for k in (1 + spin, 3 + 2 * spin, 6 + spin):
        assert not first[k].any()


def test_a_closed_shell_ends_at_twice_the_threshold(component):
    rho = torch.tensor([2 * LOW, 2.1 * LOW], dtype=torch.float64)
    d = ClosedShell(rho > 0, LOW, rho, rho**2, rho)
    alive = component.closed_shell(d) != 0
    assert alive.tolist() == [False, True]
    assert all((x != 0).tolist() == [False, True] for x in component.closed_shell_first(d))


def test_without_slopes_by_hand_there_are_none():
    plain = exchange_component("X", 0, "LDA", made_up)
    assert plain.closed_shell_first is None
    assert plain.polarised_first is None
    assert plain.threshold == 1e-15


def test_names_and_numbers_are_those_of_one_functional():
    numbers = [component.libxc_id for component in COMPONENTS.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(name == component.name == name.upper() for name, component in COMPONENTS.items())
