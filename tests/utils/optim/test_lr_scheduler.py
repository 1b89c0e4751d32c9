"""Schedules against pytorch-segmentation's curves and torch's own."""

import copy
import json
import math

import pytest
import torch
from torch.optim import lr_scheduler as library

from builders.sections import SECTIONS
from docs import draw_schedules
from tests.conftest import ROOT, run_code
from tests.utils.config.test_check_config import check, minimal, problems_of
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint
from utils.config.build import with_defaults
from utils.config.errors import ConfigError
from utils.config.sections import ScheduleSection, TrainerSection
from utils.optim import lr_scheduler
from utils.optim.schedule_driver import Schedule, WarmUp
from utils.optim.schedule_from_config import default_interval, schedule_of

ARGS = {"Step": {"step_size": 1}}  # what has no default
LIBRARY_ARGS = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 3]},
    "ExponentialLR": {"gamma": 0.7},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3},
    "ReduceLROnPlateau": {"patience": 0},
}
LIBRARY = sorted(set(SECTIONS["lr_scheduler"].names()) - set(lr_scheduler.__all__))


def args_of(name):
    return {**ARGS, **LIBRARY_ARGS}.get(name, {})


def ours(name, optimizer, *args):
    return getattr(lr_scheduler, name)(optimizer, *args, **args_of(name))


# pytorch-segmentation's rates for 2 epochs of 5 steps at rate 1, recorded from its code.
POLY = [0.90953, 0.81805, 0.72542, 0.63145, 0.53589, 0.43838, 0.33838, 0.23492, 0.12589, 0]
ONE_CYCLE = [0.28, 0.76, 1.0, 0.95048, 0.81175, 0.61126, 0.38874, 0.18826, 0.04952, 0.0]
MOMENTUM = [0.925, 0.875, 0.85, 0.855, 0.8688, 0.8889, 0.9111, 0.9312, 0.945, 0.95]


def sgd(lr=1.0, **kwargs):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, **kwargs)


def two_groups():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.01)]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def run(scheduler, steps):
    """(rate, momentum) that each optimizer step uses."""
    used = []
    for _ in range(steps):
        group = scheduler.optimizer.param_groups[0]
        used.append((group["lr"], group.get("momentum", group.get("betas", (None,))[0])))
        scheduler.optimizer.step()
        scheduler.step()
    return used


def rates(scheduler, steps):
    return [rate for rate, _ in run(scheduler, steps)]


def test_feature_poly_is_the_ancestors_curve_one_step_earlier():
    used = rates(lr_scheduler.Poly(sgd(), 2, 5), 11)
    assert used[0] == 1.0 and used[9] > 0
    assert used[1:] == pytest.approx(POLY, abs=1e-5)


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
    warm = rates(lr_scheduler.Poly(sgd(), 4, 5, warmup_epochs=1), 6)
    assert warm[:2] == pytest.approx([0.2, 0.4 * (1 - 1 / 20) ** 0.9])
    assert warm[5] == pytest.approx((1 - 5 / 20) ** 0.9)
    linear = rates(lr_scheduler.Poly(sgd(), 1, 4, power=1.0), 4)
    assert linear == pytest.approx([1, 0.75, 0.5, 0.25])
    cycle = lr_scheduler.OneCycle(sgd(momentum=0.9), 1, 10, (0.5, 0.6), div_factor=10, phase1=0.5)
    used = run(cycle, 10)
    assert used[0] == pytest.approx((0.1, 0.6))
    assert used[5] == pytest.approx((1.0, 0.5))


@pytest.mark.parametrize("name", lr_scheduler.__all__)
def test_feature_stepping_past_the_end_is_harmless(name):
    used = run(ours(name, sgd(momentum=0.9), 1, 3), 8)
    assert all(math.isfinite(rate) and rate >= 0 for rate, _ in used)


@pytest.mark.parametrize("name", lr_scheduler.__all__)
def test_exception_no_step(name):
    with pytest.raises(ValueError, match="at least one step"):
        ours(name, sgd(), 2, 0)


# --- against torch's


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (("Poly", 0, 0.8), ("PolynomialLR", {"total_iters": 60, "power": 0.8})),
        (("Step", 2, None, 0.5), ("StepLR", {"step_size": 8, "gamma": 0.5})),
        (("Step", None, [1, 5]), ("MultiStepLR", {"milestones": [4, 20]})),
        (("Cosine", 0.1), ("CosineAnnealingLR", {"T_max": 60, "eta_min": 0.03})),
        *(
            (("Cosine", 0.1, 2, factor),
             ("CosineAnnealingWarmRestarts", {"T_0": 8, "T_mult": factor, "eta_min": 0.03}))
            for factor in (1, 2, 3)
        ),
    ],
)  # fmt: skip
def test_feature_equals_torch(mine, theirs):
    """Over fifteen epochs of four steps."""
    scheduler = getattr(lr_scheduler, mine[0])(sgd(0.3), 15, 4, *mine[1:])
    other = getattr(library, theirs[0])(sgd(0.3), **theirs[1])
    assert rates(scheduler, 60) == pytest.approx(rates(other, 60), rel=1e-9, abs=1e-12)


def test_feature_cosine_by_hand():
    # Periods of 1.5 epochs of 3 steps are 4 (4.5 rounds to even), then 9 steps; worked out by hand.
    cosine = lr_scheduler.Cosine(sgd(), 6, 3, period_epochs=1.5, period_factor=2)
    used = rates(cosine, 14)
    assert used[:4] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert (used[4], used[13]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("Step", {}, "give step_size .such as 3. or milestones .such as .6, 8.."),
        ("Step", {"step_size": 2, "milestones": [3]}, "not both"),
        ("Step", {"milestones": [3, 3]}, "milestones"),
        ("Cosine", {"period_factor": 2.0}, "no effect without period_epochs"),
    ],
)
def test_exception_arguments_of_ours(name, args, words):
    with pytest.raises(ValueError, match=words):
        getattr(lr_scheduler, name)(sgd(), 9, 5, **args)


def test_feature_a_longer_run_is_on_its_own_curve_at_once():
    first = Schedule(lr_scheduler.Poly(sgd(), 2, 5))
    for _ in range(10):
        first.optimizer.step()
        first.step()
    longer = Schedule(lr_scheduler.Poly(sgd(), 4, 5))
    longer.load_state_dict(first.state_dict(), steps=0, epochs=0)
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0.5**0.9)


# --- a section of the config to a schedule


def schedule(kind, args=None, *, epochs=6, steps=5, monitor="max Mean_IoU", optimizer=None, **keys):
    section = ScheduleSection(kind, args or {}, **keys)
    trainer = TrainerSection(epochs, monitor=monitor)
    return schedule_of(section, trainer, optimizer or sgd(0.1, momentum=0.9), steps)


def drive(moved, epochs=6, steps=5, first=0):
    """The groups' rates and momenta of each step; the metric falls from the second epoch on."""
    used = []
    for epoch in range(first, epochs):
        for _ in range(steps):
            groups = moved.optimizer.param_groups
            used.append([(g["lr"], g.get("momentum", g.get("betas"))) for g in groups])
            moved.optimizer.step()
            moved.step()
        moved.epoch_end(1.0 / (1 + epoch))
    return used


def plain(kind, args, by_step, epochs=6, steps=5, lr=0.1):
    """Torch's own, moved as its documentation says."""
    optimizer = sgd(lr, momentum=0.9)
    scheduler = getattr(library, kind)(optimizer, **args)
    used = []
    for epoch in range(epochs):
        for _ in range(steps):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if by_step:
                scheduler.step()
        if kind == "ReduceLROnPlateau":
            scheduler.step(1.0 / (1 + epoch))
        elif not by_step:
            scheduler.step()
    return used


WORKED_OUT = {
    "CosineAnnealingLR": {"T_max": 6}, "OneCycleLR": {"max_lr": 0.1, "total_steps": 30},
    "PolynomialLR": {"total_iters": 6}, "ReduceLROnPlateau": {"mode": "max"},
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARY)
def test_feature_torchs_schedules_are_torchs(name):
    args = args_of(name)
    moved = schedule(name, args)
    theirs = plain(name, {**args, **WORKED_OUT.get(name, {})}, default_interval(name) == "step")
    assert [groups[0][0] for groups in drive(moved)] == theirs
    assert len(set(theirs)) > 1


def test_cardinality_torchs_schedules():
    others = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "LRScheduler"}
    assert {*LIBRARY, *others} == set(library.__all__)
    by_step = {name for name in LIBRARY if default_interval(name) == "step"}
    assert by_step == {"CyclicLR", "OneCycleLR"}


@pytest.mark.parametrize("mode", ["linear", "constant"])
@pytest.mark.parametrize("name", [*lr_scheduler.__all__, *LIBRARY])
def test_feature_a_warm_up_scales_what_is_behind_it(name, mode):
    args = args_of(name)
    without = [groups[0][0] for groups in drive(schedule(name, args))]
    keys = {"warmup_epochs": 1.5, "warmup_mode": mode, "warmup_factor": 0.2}
    warm = [groups[0][0] for groups in drive(schedule(name, args, **keys))]
    # 1.5 epochs of 5 steps are 8; the factors are those of torch's LinearLR and ConstantLR.
    names = {"linear": ("LinearLR", "start_factor"), "constant": ("ConstantLR", "factor")}
    kind, argument = names[mode]
    factors = plain(kind, {argument: 0.2, "total_iters": 8}, True, lr=1.0)
    assert warm[:8] == pytest.approx([a * b for a, b in zip(without, factors, strict=True)][:8])
    assert warm[8:] == without[8:]


@pytest.mark.parametrize("name", [*lr_scheduler.__all__, *LIBRARY])
def test_feature_every_schedule_resumes_exactly(name, tmp_path):
    args = args_of(name)
    keys = {"warmup_epochs": 2.5}
    whole_run = schedule(name, args, **keys)
    whole = drive(whole_run)
    first = schedule(name, args, **keys)
    begun = drive(first, epochs=2)
    state = {"optimizer": first.optimizer.state_dict(), "lr_scheduler": first.state_dict()}
    save_checkpoint({"state_dict": {}, **state}, tmp_path / "c.pth")
    state = load_checkpoint(tmp_path / "c.pth")
    second = schedule(name, args, **keys)
    second.optimizer.load_state_dict(state["optimizer"])
    second.load_state_dict(state["lr_scheduler"], steps=0, epochs=0)
    assert begun + drive(second, first=2) == whole
    assert second.state_dict() == whole_run.state_dict()


@pytest.mark.parametrize("name", [n for n in lr_scheduler.__all__ + LIBRARY if "Plateau" not in n])
def test_feature_a_checkpoint_without_state_is_caught_up_with(name):
    args = args_of(name)
    whole = drive(schedule(name, args, warmup_epochs=2.5))
    second = schedule(name, args, warmup_epochs=2.5)
    # As from pytorch-segmentation: with a learning rate of its own, without torch's further keys.
    state = sgd(0.04, momentum=0.8).state_dict()
    second.optimizer.load_state_dict(state)
    second.load_state_dict(None, steps=10, epochs=2)
    rest = drive(second, first=2)
    assert [g[0][0] for g in rest] == pytest.approx([g[0][0] for g in whole[10:]], rel=1e-12)


def test_feature_another_schedule_is_caught_up_with(caplog):
    first = schedule("Poly")
    drive(first, epochs=2)
    second = schedule("Cosine")
    second.load_state_dict(first.state_dict(), steps=0, epochs=2)
    assert "the checkpoint's schedule is Poly, not Cosine" in caplog.text
    assert drive(second, first=2) == drive(schedule("Cosine"))[10:]


def test_feature_states_of_before_have_no_count():
    first = schedule("Poly")
    drive(first, epochs=2)
    state = {k: v for k, v in first.state_dict().items() if k not in ("type", "steps")}
    second = schedule("Poly")
    second.load_state_dict(state, steps=10, epochs=2)
    assert second.state_dict() == first.state_dict()


@pytest.mark.parametrize("steps", [5, 20])
def test_exception_torchs_schedules_do_not_stretch(steps):
    for name in ("OneCycleLR", "CosineAnnealingLR", "PolynomialLR"):
        state = schedule(name).state_dict()
        words = f"{name} was made for a run of .* cannot be stretched to .* Keep trainer.epochs"
        with pytest.raises(ValueError, match=words):
            schedule(name, epochs=12, steps=steps).load_state_dict(state, steps=5, epochs=1)


# --- resumed with another batch size


def resume(first, second):
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.load_state_dict(first.state_dict(), steps=0, epochs=0)


FOLLOWING = [(name, ARGS.get(name, {}), None) for name in lr_scheduler.__all__] + [
    ("OneCycleLR", {}, None),
    ("CosineAnnealingLR", {}, "step"),
    ("PolynomialLR", {"power": 2.0}, "step"),
]


@pytest.mark.parametrize(("old", "new"), [(3, 12), (12, 3)])
@pytest.mark.parametrize(("name", "args", "interval"), FOLLOWING)
def test_feature_steps_of_another_size(name, args, interval, old, new, caplog):
    keys = {"interval": interval, "warmup_epochs": 2.5}
    first = schedule(name, args, steps=old, **keys)
    drive(first, epochs=2, steps=old)
    second = schedule(name, args, steps=new, **keys)
    resume(first, second)
    whole = [rate for ((rate, _),) in drive(schedule(name, args, steps=new, **keys), steps=new)]
    rest = [rate for ((rate, _),) in drive(second, steps=new, first=2)]
    assert rest == pytest.approx(whole[2 * new :], rel=1e-9)
    (warning,) = caplog.messages
    assert f"has {old} steps, one of this run {new}; it continues at the same fraction" in warning
    # Once more, from a checkpoint of the run that was moved: nothing is left to be done.
    third = schedule(name, args, steps=new, **keys)
    resume(second, third)
    assert third.state_dict() == second.state_dict()
    assert len(caplog.messages) == 1


def test_feature_a_schedule_by_epoch_does_not_mind_steps_of_another_size(caplog):
    args, keys = {"step_size": 2}, {"warmup_epochs": 2.5}
    first = schedule("StepLR", args, steps=3, **keys)
    drive(first, epochs=2, steps=3)
    second = schedule("StepLR", args, steps=12, **keys)
    resume(first, second)
    whole = drive(schedule("StepLR", args, steps=12, **keys), steps=12)
    assert drive(second, steps=12, first=2) == whole[24:]
    assert not caplog.messages


def test_feature_arguments_in_steps_go_on_counting_steps(caplog):
    args = {"step_size": 10, "gamma": 0.5}
    first = schedule("StepLR", args, steps=3, interval="step")
    begun = drive(first, epochs=2, steps=3)
    second = schedule("StepLR", args, steps=12, interval="step")
    resume(first, second)
    rates = [rate for ((rate, _),) in begun + drive(second, epochs=4, steps=12, first=2)]
    assert rates == [0.1 * 0.5 ** (step // 10) for step in range(30)]
    assert "its arguments count steps" in caplog.text


# --- groups


def test_feature_groups_keep_their_ratio():
    for name in [*lr_scheduler.__all__, *LIBRARY]:
        used = drive(schedule(name, args_of(name), optimizer=two_groups()))
        for (first, _), (second, _) in used:
            assert second == pytest.approx(first / 10)


def test_feature_plateau_has_a_floor_for_each_group():
    moved = schedule("ReduceLROnPlateau", {"patience": 0, "min_lr": 0.02}, optimizer=two_groups())
    used = [[rate for rate, _ in groups] for groups in drive(moved)]
    assert used[-1] == pytest.approx([0.02, 0.002])


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"])
def test_exception_one_floor_for_groups_of_different_rates(name):
    args = args_of(name)
    words = 'eta_min: .* use our schedule "Cosine" with min_factor 0.2'
    with pytest.raises(ConfigError, match=words):
        schedule(name, {**args, "eta_min": 0.02}, optimizer=two_groups())
    with pytest.raises(ConfigError, match="with min_factor, a fraction"):
        schedule(name, {**args, "eta_min": 0.2}, optimizer=two_groups())
    moved = schedule(name, {**args, "eta_min": 0.02})
    assert min(groups[0][0] for groups in drive(moved)) >= 0.02
    used = drive(schedule(name, {**args, "eta_min": 0.0}, optimizer=two_groups()))
    ratio = [second / first for (first, _), (second, _) in used]
    assert ratio == pytest.approx([0.1] * 30)


def test_feature_plateau_looks_at_the_monitored_figure():
    args = {"patience": 0, "factor": 0.5}
    falling = drive(schedule("ReduceLROnPlateau", args, monitor="min val_loss"))
    assert {groups[0][0] for groups in falling} == {0.1}
    moved = schedule("ReduceLROnPlateau", args)
    for _ in range(5):
        moved.epoch_end(None)  # epochs that are not validated
    assert moved.optimizer.param_groups[0]["lr"] == 0.1
    for _ in range(3):
        moved.epoch_end(0.5)
    assert moved.optimizer.param_groups[0]["lr"] == 0.025


def test_exception_one_cycle_that_is_too_short():
    with pytest.raises(ConfigError, match="ends after 20 steps.* 30"):
        schedule("OneCycleLR", {"max_lr": 0.1, "total_steps": 20})


def test_feature_a_state_is_not_moved_any_more():
    moved = schedule("OneCycleLR")
    state = moved.state_dict()
    before = copy.deepcopy(state)
    drive(moved, epochs=2)
    assert state == before


def test_smoke_warm_up():
    factors = [WarmUp(4, "linear", 0.2).factor(t) for t in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert [WarmUp(2, "constant", 0.2).factor(t) for t in range(4)] == [0.2, 0.2, 1, 1]
    assert WarmUp().factor(0) == 1


def test_feature_the_shortest_warm_up_is_one_step():
    moved = schedule("StepLR", {"step_size": 9}, warmup_epochs=0.01)
    used = [rate for ((rate, _),) in drive(moved)]
    assert used == pytest.approx([0.001] + [0.1] * 29)
    assert schedule("Poly").warmup.steps == 0


# --- the check of the config


@pytest.mark.parametrize(
    ("section", "path", "words"),
    [
        ({"type": "StepLR"}, "args.step_size", "required key is missing"),
        ({"type": "StepLR", "args": {"step_size": 0}}, "args", "is one of them 0?"),
        ({"type": "StepLR", "args": {"step_size": 1, "gama": 1}}, "args.gama", "mean 'gamma'"),
        ({"type": "MultiStepLR", "args": {"milestones": "30"}}, "args.milestones", "`array`"),
        ({"type": "CyclicLR", "args": {"base_lr": "fast", "max_lr": 1}}, "args.base_lr", "float"),
        ({"type": "ExponentialLR", "args": {"gamma": -1}}, "args", "becomes -0.1"),
        ({"type": "LambdaLR"}, "type", "its factor is Python code"),
        ({"type": "SequentialLR"}, "type", "warmup_epochs puts a warm-up in front"),
        ({"type": "StepLR", "args": {"step_size": 1, "last_epoch": 3}}, "args.last_epoch", "sets"),
        ({"type": "Poly", "interval": "epoch"}, "interval", "every step"),
        ({"type": "ReduceLROnPlateau", "interval": "step"}, "interval", "after each validation"),
        ({"type": "OneCycleLR", "interval": "steps"}, "interval", "did you mean 'step'"),
        ({"type": "Step"}, "args", "give step_size"),
        ({"type": "Poly", "warmup_epochs": 3}, "warmup_epochs", "more than trainer.epochs"),
        ({"type": "Poly", "warmup_epochs": -1}, "warmup_epochs", ">= 0"),
        ({"type": "Poly", "warmup_factor": 0.5}, "warmup_epochs", "warmup_factor"),
        ({"type": "Poly", "args": {"warmup_epochs": 1}, "warmup_epochs": 1}, "args.warmup_epochs",
         "two warm-ups"),
        ({"type": "OneCycleLR", "args": {"total_steps": 1}}, "args", "ends after 1 steps"),
        ({"type": "OneCycleLR", "args": {"epochs": 2}}, "args.epochs", "steps_per_epoch; remove"),
        ({"type": "OneCycleLR", "args": {"steps_per_epoch": 9}}, "args.steps_per_epoch", "remove"),
        ({"type": "ReduceLROnPlateau", "args": {"mode": "min"}}, "args.mode",
         '"min", but trainer.monitor is "max Mean_IoU"; remove it'),
        ({"type": "StepLr"}, "type", "did you mean 'StepLR'"),
    ],
)  # fmt: skip
def test_exception_wrong_sections(section, path, words):
    tree = minimal()
    tree["trainer"]["epochs"] = 2
    (problem,) = problems_of({**tree, "lr_scheduler": section})
    assert problem.startswith(f"lr_scheduler.{path}: ")
    assert words in problem


def test_exception_a_schedule_that_the_optimizer_cannot_follow():
    tree = {**minimal(), "lr_scheduler": {"type": "OneCycleLR"}}
    tree["optimizer"] = {"type": "Adagrad", "args": {"lr": 0.1}}
    (problem,) = problems_of(tree)
    assert "momentum" in problem
    tree["lr_scheduler"]["args"] = {"cycle_momentum": False, "max_lr": [0.1, 0.01]}  # one a group
    check(tree)


def test_exception_plateau_with_nothing_to_look_at():
    trainer = {"epochs": 1, "monitor": "off"}
    tree = {**minimal(), "lr_scheduler": {"type": "ReduceLROnPlateau"}, "trainer": trainer}
    (problem,) = problems_of(tree)
    assert 'trainer.monitor is "off"; name one' in problem


@pytest.mark.parametrize("mode", ["max", None])
def test_feature_plateau_may_repeat_the_mode_of_the_monitor(mode):
    section = {"type": "ReduceLROnPlateau", "args": {"mode": mode}}
    config = check({**minimal(), "lr_scheduler": section})
    moved = schedule_of(config.lr_scheduler, config.trainer, sgd(), 5)
    assert moved.scheduler.mode == "max"


@pytest.mark.parametrize("name", [*lr_scheduler.__all__, *LIBRARY])
def test_feature_the_printed_config_means_the_same(name):
    section = {"type": name, "args": args_of(name)}
    config = check({**minimal(), "lr_scheduler": section, "trainer": {"epochs": 3}})
    shown = json.loads(json.dumps(with_defaults(config, SECTIONS)))
    again = check(shown)
    runs = []
    for section in (config.lr_scheduler, again.lr_scheduler):
        moved = schedule_of(section, config.trainer, sgd(0.1, momentum=0.9), 4)
        runs.append(drive(moved, epochs=3, steps=4))
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_feature_the_check_leaves_the_compiler_alone():
    code = (
        "import sys; from tests.utils.config.test_check_config import check, minimal\n"
        "check({**minimal(), 'lr_scheduler': {'type': 'OneCycleLR', 'warmup_epochs': 0.5}})\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    result = run_code(code)
    assert result.returncode == 0, result.stderr


# --- the plot


def test_smoke_the_plot_shows_every_schedule(tmp_path):
    pytest.importorskip("matplotlib")
    assert {panel.section.type for panel in draw_schedules.PANELS} >= set(lr_scheduler.__all__)
    assert any(panel.section.warmup_epochs for panel in draw_schedules.PANELS)
    draw_schedules.main([str(tmp_path / "s.png")])
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert (ROOT / "docs/schedules.png").stat().st_size < 150_000
