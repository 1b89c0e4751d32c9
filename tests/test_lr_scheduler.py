"""Schedules against the ancestor's curves and torch's own."""

import math

import pytest
import torch

from utils import lr_scheduler

# The ancestor's rates for 2 epochs of 5 steps at rate 1, recorded from its code.
POLY = [0.90953, 0.81805, 0.72542, 0.63145, 0.53589, 0.43838, 0.33838, 0.23492, 0.12589, 0]
ONE_CYCLE = [0.28, 0.76, 1.0, 0.95048, 0.81175, 0.61126, 0.38874, 0.18826, 0.04952, 0.0]
MOMENTUM = [0.925, 0.875, 0.85, 0.855, 0.8688, 0.8889, 0.9111, 0.9312, 0.945, 0.95]


def sgd(lr=1.0, **kwargs):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, **kwargs)


def run(scheduler, steps):
    """(rate, momentum) that each optimizer step uses."""
    used = []
    for _ in range(steps):
        group = scheduler.optimizer.param_groups[0]
        used.append((group["lr"], group.get("momentum", group.get("betas", (None,))[0])))
        scheduler.optimizer.step()
        scheduler.step()
    return used


def test_feature_poly_is_the_ancestors_curve_one_step_earlier():
    rates = [rate for rate, _ in run(lr_scheduler.Poly(sgd(), 2, 5), 11)]
    assert rates[0] == 1.0
    assert rates[1:] == pytest.approx(POLY, abs=1e-5)
    assert rates[9] > 0


def test_feature_poly_equals_torch():
    ours = run(lr_scheduler.Poly(sgd(0.3), 3, 4, power=0.9), 12)
    theirs = run(torch.optim.lr_scheduler.PolynomialLR(sgd(0.3), 12, power=0.9), 12)
    assert [r for r, _ in ours] == pytest.approx([r for r, _ in theirs], abs=1e-12)


def test_feature_one_cycle_is_the_ancestors_curve_one_step_earlier():
    used = run(lr_scheduler.OneCycle(sgd(momentum=0.9), 2, 5), 11)
    assert used[0] == pytest.approx((1 / 25, 0.95))
    assert [rate for rate, _ in used[1:]] == pytest.approx(ONE_CYCLE, abs=1e-5)
    assert [momentum for _, momentum in used[1:]] == pytest.approx(MOMENTUM, abs=1e-4)


def test_feature_one_cycle_moves_the_betas_of_adam():
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.9, 0.99))
    used = run(lr_scheduler.OneCycle(adam, 2, 5), 10)
    assert used[3][1] == pytest.approx(0.85)
    assert adam.param_groups[0]["betas"][1] == 0.99


def test_smoke_arguments_are_honoured():
    warm = [rate for rate, _ in run(lr_scheduler.Poly(sgd(), 4, 5, warmup_epochs=1), 6)]
    assert warm[:2] == pytest.approx([0.2, 0.4 * (1 - 1 / 20) ** 0.9])
    assert warm[5] == pytest.approx((1 - 5 / 20) ** 0.9)
    linear = [rate for rate, _ in run(lr_scheduler.Poly(sgd(), 1, 4, power=1.0), 4)]
    assert linear == pytest.approx([1, 0.75, 0.5, 0.25])
    cycle = lr_scheduler.OneCycle(
        sgd(momentum=0.9), 1, 10, momentums=(0.5, 0.6), div_factor=10, phase1=0.5
    )
    used = run(cycle, 10)
    assert used[0] == pytest.approx((0.1, 0.6))
    assert used[5] == pytest.approx((1.0, 0.5))


def test_feature_every_group_keeps_its_ratio():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    for name in lr_scheduler.__all__:
        optimizer = torch.optim.SGD(groups, momentum=0.9)
        scheduler = getattr(lr_scheduler, name)(optimizer, 2, 3)
        for _ in range(6):
            first, second = (group["lr"] for group in optimizer.param_groups)
            assert second == pytest.approx(first / 10)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("name", lr_scheduler.__all__)
def test_feature_state_resumes_exactly(name):
    whole = run(getattr(lr_scheduler, name)(sgd(momentum=0.9), 2, 5), 10)
    first = getattr(lr_scheduler, name)(sgd(momentum=0.9), 2, 5)
    begun = run(first, 4)
    second = getattr(lr_scheduler, name)(sgd(momentum=0.9), 2, 5)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert begun + run(second, 6) == whole


@pytest.mark.parametrize("name", lr_scheduler.__all__)
def test_feature_stepping_past_the_end_is_harmless(name):
    used = run(getattr(lr_scheduler, name)(sgd(momentum=0.9), 1, 3), 8)
    assert all(math.isfinite(rate) and rate >= 0 for rate, _ in used)


@pytest.mark.parametrize("name", lr_scheduler.__all__)
def test_exception_no_step(name):
    with pytest.raises(ValueError, match="at least one step"):
        getattr(lr_scheduler, name)(sgd(), 2, 0)
