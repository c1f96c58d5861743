"""What must hold exactly: rotation, reflection, permutation, translation, spin swap, batches."""

import dataclasses

import pytest
import torch

from deeph_zero.nn.inputs import PhysicsMatrices, collate
from deeph_zero.testing import WATER, assert_equivariant

MOLECULES = {
    "water": WATER,
    "hydrogen": "H 0 0 0; H 0.3 0.2 0.6",
    "carbon dioxide": "C 0 0 0; O 0 0 1.16; O 0 0 -1.16",
    "methane": "C 0 0 0; H .63 .63 .63; H -.63 -.63 .63; H -.63 .63 -.63; H .63 -.63 -.63",
    "neon-like oxygen": "O 0.3 0.1 -0.2",
}
INTERACTIONS = ["so2", "tensor-product"]
ATOL = 1e-10
"""Float64 through three layers of order-one features; seen: 3e-14."""


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_output_moves_with_the_molecule(name, interaction, make_case, make_network):
    case = make_case(MOLECULES[name])
    net = make_network(case.layout, interaction=interaction)
    assert_equivariant(net, case.molecule(), case.matrices, atol=ATOL, seed=7)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_f_functions_and_open_shell_move_too(interaction, make_case, make_network):
    case = make_case("O 0 0 0.1; H 0.2 0.76 0.58", basis="def2-tzvp", channels=2, spin=1)
    net = make_network(case.layout, interaction=interaction)
    assert net(case.inputs())[0].to_dense().shape[0] == 2
    assert_equivariant(net, case.molecule(), case.matrices, atol=ATOL, seed=8)


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("n_spin", [1, 2])
def test_geometry_inputs_move_too(name, n_spin, make_case, make_network):
    case = make_case(MOLECULES[name]).bare(n_spin)
    net = make_network(case.layout, inputs="geometry", base="fock")
    assert net(case.inputs())[0].to_dense().ndim == 1 + n_spin
    assert_equivariant(net, case.molecule(), case.matrices, atol=ATOL, seed=9)


def test_geometry_inputs_swap_spins(make_case, make_network):
    case = make_case("O 0 0 0.1; H 0.2 0.76 0.58", spin=1).bare(2)
    net = make_network(case.layout, inputs="geometry", base="fock")
    alpha_beta = net(case.inputs())[0].to_dense()
    swapped = net(dataclasses.replace(case, spin=-1).inputs())[0].to_dense()
    assert (alpha_beta[0] - alpha_beta[1]).abs().max() > 1e-3
    torch.testing.assert_close(swapped, alpha_beta.flip(0), rtol=0, atol=1e-13)


def test_swapping_spins_swaps_outputs(make_case, make_network):
    case = make_case("O 0 0 0.1; H 0.2 0.76 0.58", channels=2, spin=1)
    net = make_network(case.layout)
    m = case.matrices
    flipped = PhysicsMatrices(
        ovlp=m.ovlp, hcore=m.hcore, dm0=m.dm0.flip(0), fock0=m.fock0.flip(0), ddm0=m.ddm0.flip(0)
    )
    swapped = dataclasses.replace(case, matrices=flipped, spin=-1)
    alpha_beta = net(case.inputs())[0].to_dense()
    assert (alpha_beta[0] - alpha_beta[1]).abs().max() > 1e-3
    torch.testing.assert_close(
        net(swapped.inputs())[0].to_dense(), alpha_beta.flip(0), rtol=0, atol=1e-13
    )


def test_equal_spins_agree_with_the_closed_shell(make_case, make_network):
    case = make_case(WATER)
    net = make_network(case.layout)
    m = case.matrices
    both = PhysicsMatrices(
        ovlp=m.ovlp,
        hcore=m.hcore,
        dm0=(m.dm0 / 2).expand(2, -1, -1),
        fock0=m.fock0.expand(2, -1, -1),
        ddm0=(m.ddm0 / 2).expand(2, -1, -1),
    )
    closed = net(case.inputs())[0].to_dense()
    opened = net(dataclasses.replace(case, matrices=both).inputs())[0].to_dense()
    torch.testing.assert_close(opened, closed.expand(2, -1, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_batch_equals_single(interaction, make_case, make_network):
    cases = [
        make_case(WATER),
        make_case("O 0 0 0.1; H 0.2 0.76 0.58", channels=2, spin=1, seed=1),
        make_case("H 0 0 0", channels=2, spin=1, seed=2),
        make_case(MOLECULES["methane"], seed=3),
    ]
    net = make_network(cases[0].layout, interaction=interaction)
    batch = collate([c.inputs() for c in cases])
    nested = collate(
        [collate([c.inputs() for c in cases[:2]]), collate([cases[2].inputs()]), cases[3].inputs()]
    )
    for inputs in (batch, nested):
        outputs = net(inputs)
        assert inputs.n_molecules == len(outputs) == 4
        for case, out in zip(cases, outputs, strict=True):
            torch.testing.assert_close(
                out.to_dense(), net(case.inputs())[0].to_dense(), rtol=0, atol=1e-12
            )


def test_output_is_symmetric_float64(make_case, make_network):
    case = make_case(WATER)
    out = make_network(case.layout).float()(case.inputs(dtype=torch.float32))[0].to_dense()
    assert out.dtype == torch.float64
    assert torch.equal(out, out.mT)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_cutoff_is_smooth(interaction, make_case, make_network):
    """Value and slope of the output vanish where the pair leaves the cutoff, inside it do not."""
    cutoff = 5.0
    case = make_case("O 0 0 0; H 0 0 1.0", charge=-1)
    net = make_network(case.layout, cutoff=cutoff, interaction=interaction)

    def output(distance):
        coords = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, distance]], dtype=torch.float64)
        return net(dataclasses.replace(case, coords=coords).inputs(cutoff=cutoff))[0].to_dense()

    far = output(cutoff + 1.0)
    h = 1e-3
    # the step is quintic: it leaves the cutoff as h^3 with coefficient 10 / (0.4 cutoff)^3
    assert (output(cutoff - h) - far).abs().max() < 1e-6
    assert (output(cutoff + h) - far).abs().max() == 0
    slope = (output(cutoff) - output(cutoff - h)).abs().max() / h
    assert slope < 1e-4
    assert (output(cutoff - 1.0) - far).abs().max() > 1e-2
