import pytest
import torch
from torch import nn

from prediction.predictor import memory
from prediction.predictor.memory import BudgetError, MemoryBudget
from prediction.predictor.network import Predictor
from prediction.predictor.windows import WindowRule


class Hungry(nn.Module):
    """Takes about 1200 bytes for each pixel."""

    def forward(self, images):
        features = images.mean(1, keepdim=True).repeat(1, 300, 1, 1)
        return features[:, :4].clone()


@pytest.fixture
def predictor():
    return Predictor(Hungry(), (0.5,) * 3, (0.5,) * 3, "cpu", mode="whole")


@pytest.fixture
def quiet(monkeypatch):
    """A process of 500 MB on a machine with 8 GB free."""
    monkeypatch.setattr(memory, "resident_memory", lambda: 500_000_000)
    monkeypatch.setattr(memory, "free_memory", lambda: 8_000_000_000)
    monkeypatch.setattr(memory, "return_unused", lambda: None)
    monkeypatch.setattr(memory, "keep_little_unused", lambda: None)


def test_feature_what_a_pixel_takes_is_measured(predictor):
    assert 1000 < MemoryBudget(predictor, 3).per_pixel() < 2500


@pytest.mark.parametrize(
    ("total", "size", "expected"),
    [
        (None, (1000, 1000), None), (None, (1700, 1700), None), (None, (9000, 9000), 1024),
        (2_000_000_000, (500, 500), None), (2_000_000_000, (3000, 3000), 512),
        (1_000_000_000, (3000, 3000), 256), (700_000_000, (3000, 3000), 128),
        (20_000_000_000, (2000, 2000), None),
    ],
)  # fmt: skip
def test_feature_images_that_do_not_fit_are_cut(
    predictor, quiet, monkeypatch, total, size, expected
):
    monkeypatch.setattr(MemoryBudget, "_measure", lambda self: 1300.0)
    rule = MemoryBudget(predictor, 3, total=total, classes=4).rule_for(*size)
    assert (rule and rule.size) == expected


def test_feature_processes_share_what_is_free(predictor, quiet, monkeypatch):
    """An image of 4.4 megapixels takes 3.8 GB: one process has the room, several have not."""
    monkeypatch.setattr(MemoryBudget, "_measure", lambda self: 700.0)
    rules = [MemoryBudget(predictor, 3, processes=n).rule_for(2100, 2100) for n in (1, 2, 8, 32)]
    assert [rule and rule.size for rule in rules] == [None, 1024, 512, 256]


def test_feature_a_given_window_is_taken(predictor, quiet):
    rule = WindowRule(300, 0.5, "linear")
    budget = MemoryBudget(predictor, 3, rule=rule, fixed=True)
    assert budget.rule_for(5000, 5000) == rule
    assert MemoryBudget(predictor, 3, rule=rule).rule_for(500, 500) is None
    chosen = MemoryBudget(predictor, 3, rule=rule, total=10**9, classes=4).rule_for(5000, 5000)
    assert (chosen.overlap, chosen.blend) == (0.5, "linear")


def test_exception_a_window_beyond_the_budget(predictor, quiet, monkeypatch):
    monkeypatch.setattr(MemoryBudget, "_measure", lambda self: 1300.0)
    budget = MemoryBudget(predictor, 3, total=10**9, rule=WindowRule(1024), fixed=True, classes=4)
    with pytest.raises(ValueError, match=r"of 1024 pixels takes about .* use --window") as error:
        budget.rule_for(5000, 5000)
    side = int(str(error.value).partition("--window ")[2].partition(",")[0])
    MemoryBudget(predictor, 3, total=10**9, rule=WindowRule(side), fixed=True, classes=4).rule_for(
        5000, 5000
    )


def test_exception_a_budget_below_the_program(predictor, quiet):
    with pytest.raises(ValueError, match=r"take 500 MB, and 520 MB is .*; give at least 950MB"):
        MemoryBudget(predictor, 3, total=520_000_000).shares()
    MemoryBudget(predictor, 3, total=950_000_000).shares()


def test_feature_shares_add_up(predictor, quiet):
    shares = MemoryBudget(predictor, 3, total=2_500_000_000, ahead=4).shares()
    free = 2e9
    assert shares.loaded * 4 + shares.rows + shares.carry + shares.products < 0.5 * free
    assert shares.once < free


def test_feature_only_large_images_are_worth_a_measurement(predictor, quiet, monkeypatch):
    monkeypatch.setattr(MemoryBudget, "_measure", lambda self: pytest.fail("measured"))
    assert MemoryBudget(predictor, 3).rule_for(2000, 2000) is None
    assert MemoryBudget(predictor, 3, total=10**10).rule_for(500, 500) is None


def test_feature_a_measurement_leaves_no_trace(predictor):
    budget = MemoryBudget(predictor, 3)
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        budget.per_pixel()
        assert torch.equal(before, torch.get_rng_state())
    assert predictor.notes == []


@pytest.mark.parametrize("largest", [4, 30])
def test_feature_enlarged_images_take_more(quiet, largest):
    """The probe itself stays small: its pixels are enlarged as those of images are."""
    seen = []

    class Seeing(Hungry):
        def forward(self, images):
            seen.append(images[:, 0].numel())
            return super().forward(images)

    predictor = Predictor(
        Seeing(), (0.5,) * 3, (0.5,) * 3, "cpu", mode="multiscale", scales=(1, largest)
    )
    budget = MemoryBudget(predictor, 3, total=3 * 10**9, classes=4)
    if largest == 4:  # 1200 bytes * 16 * 1.2 a pixel, and 1.25 GB for a window
        assert budget.rule_for(1000, 1000).size == 128
    else:
        with pytest.raises(BudgetError, match=r"--memory: .*, or smaller --scales"):
            budget.rule_for(1000, 1000)
    assert 1000 * largest**2 < budget.per_pixel() < 2500 * largest**2
    assert max(seen) < 1_000_000
