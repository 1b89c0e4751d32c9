"""The threshold search against naive loops and scikit-learn."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from utils.logits.to_labels import predict_labels, probability_of_second
from utils.metrics.threshold import ThresholdSearch, digest_of, recorded_search, search_record
from utils.samples.pairing import Sample


def make_case(seed=0, size=4000):
    """Probabilities that pile up on the edges of the bins, and labels with ignored pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 0, 0, 1, 255], size=(2, size // 20, 10))
    probability = np.clip(rng.normal(0.3 + 0.3 * (labels == 1), 0.2), 0, 1).astype(np.float32)
    on_edges = rng.random(labels.shape) < 0.3
    probability[on_edges] = (np.round(probability[on_edges] * 40) / 40).astype(np.float32)
    return torch.from_numpy(probability), torch.from_numpy(labels)


def search_of(probability, labels, **settings):
    search = ThresholdSearch(ignore_index=255, **settings)
    for one, other in zip(probability, labels, strict=True):
        search.update(one[None], other[None])
    return search


def test_smoke_arguments():
    search = ThresholdSearch(ignore_index=-1, bins=10, device="cpu")
    search.update(torch.full((1, 2, 2), 0.55), torch.tensor([[[1, 1], [0, -1]]], dtype=torch.int16))
    assert search.confusions().sum((1, 2)).tolist() == [3] * 11


@pytest.mark.parametrize("bins", [0, 1, 7, -2])
def test_exception_bins(bins):
    with pytest.raises(ValueError, match=f"bins: expected a positive even number, got {bins}"):
        ThresholdSearch(ignore_index=255, bins=bins)


def test_exception_shapes_labels_and_figures():
    search = ThresholdSearch(ignore_index=255)
    with pytest.raises(ValueError, match=r"\(1, 2, 2\) and labels \(1, 4\) differ in shape"):
        search.update(torch.zeros(1, 2, 2), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="'F1' .* choose from Mean_IoU, IoU"):
        search.best("F1")
    search.update(torch.zeros(1, 1, 3), torch.tensor([[[0, 2, -1]]]))
    with pytest.raises(ValueError, match="2 labels are neither 0, 1 nor 255; a threshold is for"):
        search.best()


@pytest.mark.parametrize("bins", [2, 40, 1000])
def test_feature_every_threshold_counts_like_a_naive_loop(bins):
    """Naive: predict with `p >= t` in NumPy and count, for every t."""
    probability, labels = make_case()
    search = search_of(probability, labels, bins=bins)
    confusions = search.confusions().numpy()
    counted = labels.numpy() != 255
    truth = labels.numpy()[counted]
    assert len(confusions) == bins + 1 == len(search.thresholds)
    for threshold, confusion in zip(search.thresholds.numpy(), confusions, strict=True):
        predicted = (probability.numpy()[counted] >= threshold).astype(int)
        naive = [[np.sum((truth == i) & (predicted == j)) for j in (0, 1)] for i in (0, 1)]
        assert confusion.tolist() == naive, threshold


def test_feature_scores_equal_scikit_learn():
    probability, labels = make_case(seed=1)
    search = search_of(probability, labels, bins=20)
    counted = labels != 255
    truth = labels[counted].numpy()
    curves = {name: search.curve(name).tolist() for name in ("Mean_IoU", "IoU", "Dice")}
    for place, threshold in enumerate(search.thresholds.tolist()):
        predicted = (probability[counted] >= threshold).long().numpy()
        expected = {
            "Mean_IoU": jaccard_score(truth, predicted, average="macro"),
            "IoU": jaccard_score(truth, predicted),
            "Dice": f1_score(truth, predicted),
        }
        for name, value in expected.items():
            assert curves[name][place] == pytest.approx(value, abs=1e-12), (name, threshold)


@pytest.mark.parametrize("figure", ["Mean_IoU", "IoU", "Dice"])
def test_feature_the_best_is_what_a_search_by_hand_finds(figure):
    probability, labels = make_case(seed=2)
    search = search_of(probability, labels, bins=200)
    best, counted = search.best(figure), labels != 255
    candidates = [float(np.float32(step / 200)) for step in range(201)]
    scores = dict(zip(candidates, search.curve(figure).tolist(), strict=True))
    highest = max(scores.values())
    winners = [t for t, s in scores.items() if s > highest - 1e-12]
    assert best.threshold == min(winners, key=lambda t: (abs(t - 0.5), t))
    assert best.score == pytest.approx(highest, abs=1e-12)
    assert best.score_at_half == pytest.approx(scores[0.5], abs=1e-12)
    assert best.score > best.score_at_half
    predicted = (probability[counted] >= best.threshold).long()
    assert best.confusion.tolist() == confusion_matrix(labels[counted], predicted).tolist()


def test_feature_the_prediction_at_the_found_threshold_scores_as_found():
    """Through logits, as a model gives them."""
    _, labels = make_case(seed=3)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 2, *labels.shape[1:], generator=generator)
    logits[:, 1] += 1.5 * (labels == 1) - 1
    search = ThresholdSearch(ignore_index=255)
    search.update(probability_of_second(logits), labels)
    best = search.best()
    assert best.threshold != 0.5
    ids = predict_labels(logits, best.threshold)
    counted = labels != 255
    assert best.confusion.tolist() == confusion_matrix(labels[counted], ids[counted]).tolist()


def test_feature_a_tie_goes_to_the_threshold_next_to_half():
    search = ThresholdSearch(ignore_index=255, bins=10)
    search.update(torch.tensor([[[0.15, 0.92]]]), torch.tensor([[[0, 1]]]))
    assert search.best().threshold == 0.5  # 0.2 to 0.9 are all perfect
    search.update(torch.tensor([[[0.62, 0.95]]]), torch.tensor([[[0, 1]]]))
    assert search.best().threshold == pytest.approx(0.7)


def test_feature_merging_and_order_change_nothing():
    probability, labels = make_case(seed=4)
    whole = search_of(probability, labels)
    parts = [search_of(probability[i : i + 1], labels[i : i + 1]) for i in (1, 0)]
    parts[0].merge(parts[1])
    assert torch.equal(parts[0].counts, whole.counts)
    places = list(range(labels.numel()))
    random.Random(0).shuffle(places)
    shuffled = ThresholdSearch(ignore_index=255)
    shuffled.update(probability.view(1, 1, -1)[..., places], labels.view(1, 1, -1)[..., places])
    assert torch.equal(shuffled.counts, whole.counts)
    whole.reset()
    assert whole.confusions().sum() == 0


def test_feature_nan_is_never_class_one():
    search = ThresholdSearch(ignore_index=255, bins=2)
    search.update(torch.tensor([[[math.nan, 0.0, 1.0]]]), torch.tensor([[[1, 1, 1]]]))
    assert search.confusions()[:, 1].tolist() == [[1, 2], [2, 1], [2, 1]]


def test_feature_without_a_label_nothing_is_better_than_half():
    search = ThresholdSearch(ignore_index=255)
    search.update(torch.rand(1, 4, 4), torch.full((1, 4, 4), 255))
    best = search.best("IoU")
    assert best.threshold == 0.5
    assert math.isnan(best.score) and best.confusion.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("figure", ["Mean_IoU", "IoU", "Dice"])
def test_feature_with_one_class_only_the_threshold_stays_at_half(label, figure):
    """The best would be one that never, or always, says the other class."""
    search = ThresholdSearch(ignore_index=255)
    generator = torch.Generator().manual_seed(0)
    search.update(torch.rand(1, 9, 9, generator=generator), torch.full((1, 9, 9), label))
    best = search.best(figure)
    assert search.labelled() == ((81, 0), (0, 81))[label]
    assert best.threshold == 0.5
    assert best.score == best.score_at_half or math.isnan(best.score)
    search.update(torch.tensor([[0.2, 0.9]]), torch.tensor([[1 - label, 1 - label]]))
    assert search.best(figure).threshold != 0.5


def test_feature_a_record_tells_pictures_apart():
    def digest(*files):
        return digest_of([Sample(Path(file).stem, file) for file in files])

    whole = digest("a/val/1.png", "a/val/2.png")
    assert digest("moved/val/2.png", "moved/val/1.png") == whole
    assert len({whole, digest("a/val/1.png"), digest("a/test/1.png", "a/test/2.png"),
                digest("a/val/1.png", "a/val/3.png"), digest("\udcff.png")}) == 5  # fmt: skip
    best = search_of(*make_case()).best()
    record = search_record(best, "Dice", samples=[], dataset="Folder", split="test", mode="sliding")
    assert recorded_search({"threshold": 0.4, "threshold_search": record}) == record
    assert recorded_search({"threshold_search": record}) == {}  # of which there is none
    assert (record["split"], record["mode"], record["score"]) == ("test", "sliding", best.score)
    assert recorded_search({"threshold": 0.4}) == recorded_search({}) == {}


def test_feature_counts_beyond_32_bits():
    search = ThresholdSearch(ignore_index=255, bins=2)
    search.counts[1] = 2**40 + 1  # label 0, at least 0 and below 0.5
    search.counts[2 + 2 + 2] = 2**33 + 1  # label 1, at least 0.5
    assert search.best().confusion.tolist() == [[2**40 + 1, 0], [0, 2**33 + 1]]


@pytest.mark.gpu
def test_feature_the_device_counts_the_same():
    probability, labels = make_case(seed=5)
    here = search_of(probability, labels)
    there = search_of(probability.cuda(), labels.cuda(), device="cuda")
    assert torch.equal(there.counts.cpu(), here.counts)
