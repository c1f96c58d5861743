"""A training step on a device: its losses are made in one go, and each may fail by itself."""

import dataclasses
import math

import pytest
import torch

from ..train.test_module import build_module, step  # noqa: TID252  (tests are no package)

pytestmark = pytest.mark.gpu


def module_on(device, folder, loss):
    (folder / device).mkdir()
    module = build_module(folder / device, loss, runtime={"device": device})
    module.network.to(device)
    module.lessons.together = True
    return module


def assert_same(module, other):
    for one, wanted in zip(module.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(one.cpu(), wanted, rtol=1e-6, atol=1e-9)
    assert module.lessons.errors == pytest.approx(other.lessons.errors, rel=1e-6)
    for one, wanted in zip(module.problems, other.problems, strict=True):
        assert one.ks.builds == wanted.ks.builds


def test_one_that_fails_is_left_out_and_the_others_learn(tmp_path):
    module, alone = (module_on(device, tmp_path, "commutator") for device in ("cuda", "cpu"))
    for one in (module, alone):
        layer = one.problems[1].ks.layer
        whole = layer.data.plain()
        layer.data = dataclasses.replace(whole, hcore=whole.hcore * math.nan)
        layer.fock_builds = 0
        assert step(one) is not None
        one.problems[1].ks.fock_builds = 0  # the response is not asked of one that failed alone
    assert_same(module, alone)
    assert module.skipped_steps == 0
    for _ in range(2):
        step(module)
    assert list(module.lessons.dropped) == [1]
    assert "not finite" in module.lessons.dropped[1]
    assert all(bool(torch.isfinite(one).all()) for one in module.network.parameters())


def test_teachers_are_offered_the_builds(tmp_path):
    text = "energy:0.1,fixed-point"
    module, alone = (module_on(device, tmp_path, text) for device in ("cuda", "cpu"))
    for one in (module, alone):
        one.problems[0].teacher.residual = math.inf
        one._teach = lambda _: None
        assert step(one) is not None
    assert_same(module, alone)
    for one, wanted in zip(module.problems, alone.problems, strict=True):
        assert one.teacher.residual == pytest.approx(wanted.teacher.residual, rel=1e-6)
        target = one.teacher.target.cpu()
        torch.testing.assert_close(target, wanted.teacher.target, rtol=0, atol=1e-8)
        assert len(one.teacher.diis) == len(wanted.teacher.diis)
