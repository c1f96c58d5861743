"""What must hold exactly: rotation, reflection, permutation, translation, spin swap, batches."""

import dataclasses

import pytest
import torch

from deeph_zero.ao.blocks import ao_rows
from deeph_zero.ao.rotation import ao_rotation
from deeph_zero.nn.inputs import PhysicsMatrices, collate

WATER = "O 0 0 0.1; H 0 0.76 0.58; H 0.05 -0.74 0.61"
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


def rotation_matrix(seed, sign):
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))
    return q * torch.linalg.det(q).sign() * sign


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_output_turns_with_the_molecule(name, sign, interaction, make_case, make_network):
    case = make_case(MOLECULES[name])
    net = make_network(case.layout, interaction=interaction)
    rotation = rotation_matrix(7, sign)
    u = ao_rotation(case.layout, case.numbers, rotation)
    shifted = case.coords @ rotation.T + torch.tensor([1.0, -2.0, 0.5])
    before = net(case.inputs())[0]
    after = net(case.transformed(u, shifted).inputs())[0]
    assert before.abs().max() > 1e-2
    torch.testing.assert_close(u @ before @ u.T, after, rtol=0, atol=ATOL)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_f_functions_and_open_shell_turn_too(sign, interaction, make_case, make_network):
    case = make_case("O 0 0 0.1; H 0.2 0.76 0.58", basis="def2-tzvp", channels=2, spin=1)
    net = make_network(case.layout, interaction=interaction)
    rotation = rotation_matrix(8, sign)
    u = ao_rotation(case.layout, case.numbers, rotation)
    before = net(case.inputs())[0]
    after = net(case.transformed(u, case.coords @ rotation.T).inputs())[0]
    assert before.shape[0] == 2
    torch.testing.assert_close(u @ before @ u.T, after, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize(("sign", "n_spin"), [(1, 1), (-1, 2)])
def test_geometry_inputs_turn_too(name, sign, n_spin, make_case, make_network):
    case = make_case(MOLECULES[name]).bare(n_spin)
    net = make_network(case.layout, inputs="geometry", base="fock")
    rotation = rotation_matrix(9, sign)
    u = ao_rotation(case.layout, case.numbers, rotation)
    before = net(case.inputs())[0]
    after = net(case.transformed(u, case.coords @ rotation.T).inputs())[0]
    assert before.ndim == 1 + n_spin
    assert before.abs().max() > 1e-2
    torch.testing.assert_close(u @ before @ u.T, after, rtol=0, atol=ATOL)


def test_geometry_inputs_swap_spins(make_case, make_network):
    case = make_case("O 0 0 0.1; H 0.2 0.76 0.58", spin=1).bare(2)
    net = make_network(case.layout, inputs="geometry", base="fock")
    alpha_beta = net(case.inputs())[0]
    swapped = net(dataclasses.replace(case, spin=-1).inputs())[0]
    assert (alpha_beta[0] - alpha_beta[1]).abs().max() > 1e-3
    torch.testing.assert_close(swapped, alpha_beta.flip(0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_atoms_may_be_permuted(interaction, make_case, make_network):
    case = make_case(WATER)
    net = make_network(case.layout, interaction=interaction)
    order = [2, 0, 1]
    rows = ao_rows(case.layout, case.numbers)
    index = torch.cat([rows[a][rows[a] < 24].sort().values for a in order])
    u = torch.eye(24, dtype=torch.float64)[index]
    moved = case.transformed(u, case.coords[order], [case.numbers[a] for a in order])
    torch.testing.assert_close(
        u @ net(case.inputs())[0] @ u.T, net(moved.inputs())[0], rtol=0, atol=ATOL
    )


def test_swapping_spins_swaps_outputs(make_case, make_network):
    case = make_case("O 0 0 0.1; H 0.2 0.76 0.58", channels=2, spin=1)
    net = make_network(case.layout)
    m = case.matrices
    flipped = PhysicsMatrices(
        ovlp=m.ovlp, hcore=m.hcore, dm0=m.dm0.flip(0), fock0=m.fock0.flip(0), ddm0=m.ddm0.flip(0)
    )
    swapped = dataclasses.replace(case, matrices=flipped, spin=-1)
    alpha_beta = net(case.inputs())[0]
    assert (alpha_beta[0] - alpha_beta[1]).abs().max() > 1e-3
    torch.testing.assert_close(net(swapped.inputs())[0], alpha_beta.flip(0), rtol=0, atol=1e-13)


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
    closed = net(case.inputs())[0]
    opened = net(dataclasses.replace(case, matrices=both).inputs())[0]
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
            torch.testing.assert_close(out, net(case.inputs())[0], rtol=0, atol=1e-12)


def test_output_is_symmetric_float64(make_case, make_network):
    case = make_case(WATER)
    out = make_network(case.layout).float()(case.inputs(dtype=torch.float32))[0]
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
        return net(dataclasses.replace(case, coords=coords).inputs(cutoff=cutoff))[0]

    far = output(cutoff + 1.0)
    h = 1e-3
    # the step is quintic: it leaves the cutoff as h^3 with coefficient 10 / (0.4 cutoff)^3
    assert (output(cutoff - h) - far).abs().max() < 1e-6
    assert (output(cutoff + h) - far).abs().max() == 0
    slope = (output(cutoff) - output(cutoff - h)).abs().max() / h
    assert slope < 1e-4
    assert (output(cutoff - 1.0) - far).abs().max() > 1e-2
