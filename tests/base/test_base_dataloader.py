"""base/base_dataloader.py: order, purity, sizes, errors."""

import dataclasses
import itertools
import multiprocessing
import os
import re
import signal

import numpy as np
import pytest
import torch

from base.base_dataloader import BaseDataLoader, LoaderOptions, split_indices
from base.base_dataset import BaseDataset
from base.batches import EpochBatches
from base.loader_stream import WorkerError
from dataloaders.folder import Folder
from dataloaders.shapes import Shapes
from dataloaders.voc import VOC
from tests.dataset_trees import ids, image, save
from utils.files.data_file import DataError
from utils.samples.pairing import Sample
from utils.transforms.augmentation import Augmentation

LOADER_OPTIONS = {field.name for field in dataclasses.fields(LoaderOptions)}
USUAL = {"augment": True, "flip": True, "rotate": True, "blur": True, "crop_size": 48}


def loader(dataset=None, augmentation=None, **args):
    """A loader for training; what is not an option of it is an argument of `BaseDataLoader`."""
    options = {"batch_size": 4, "num_workers": 0}
    options |= {name: args.pop(name) for name in LOADER_OPTIONS & set(args)}
    return BaseDataLoader(
        Shapes(num_images=10, image_size=64) if dataset is None else dataset,
        augmentation or Augmentation(**USUAL),
        LoaderOptions(**options),
        **{"seed": 0, "ignore_index": 255, "training": True, **args},
    )


def contents(batches):
    return [(b.indices.tolist(), b.images.sum().item(), b.labels.sum().item()) for b in batches]


class Mixed(BaseDataset):
    """Images of two sizes."""

    classes = ("a", "b")
    palette = ((0, 0, 0), (255, 255, 255))

    def __init__(self):
        super().__init__([Sample(f"s{i}", "", f"s{i}.png") for i in range(6)])

    def load(self, index):
        if index == 5:
            raise DataError("s5: is broken")
        size = (8, 8 + 2 * (index % 2))
        return np.full((*size, 3), index, np.uint8), np.zeros(size, np.uint8)


@pytest.mark.parametrize("workers", [1, 2])
def test_feature_workers_change_nothing(workers):
    alone, helped = loader(shuffle=True), loader(shuffle=True, num_workers=workers)
    for epoch in (1, 2):
        assert contents(alone.epoch(epoch)) == contents(helped.epoch(epoch))


@pytest.mark.parametrize("error", [KeyError, DataError])
def test_exception_processes_end_with_an_error(error):
    """Also while its traceback, which leads to them, is alive."""

    class Faulty(Shapes):
        def load(self, index):
            raise error("s7")

    batches = loader(Faulty(num_images=10, image_size=64), num_workers=2)
    before = multiprocessing.active_children()
    with pytest.raises(error, match="s7") as caught:
        list(batches.epoch(1))
    assert set(multiprocessing.active_children()) <= set(before) and caught.tb


def test_feature_samples_are_a_function_of_seed_epoch_and_index():
    one, other = loader(shuffle=True), loader(shuffle=True)
    first = contents(one.epoch(1))
    assert contents(one.epoch(2)) != first
    assert contents(other.epoch(1)) == first
    assert contents(loader(shuffle=True, seed=1).epoch(1)) != first
    sample, again = (each.samples.sample(3, 7) for each in (one, other))
    assert np.array_equal(sample.image, again.image)
    assert not np.array_equal(sample.image, one.samples.sample(4, 7).image)


def test_feature_the_order_is_a_function_of_seed_and_epoch():
    def order(epoch, **args):
        return [key[1] for batch in loader(**args).batches.of_epoch(epoch) for key in batch]

    one = order(1, shuffle=True)
    assert order(1, shuffle=True) == one != order(2, shuffle=True)
    assert order(1, shuffle=True, seed=1) != one
    assert sorted(one) == order(1, shuffle=False) == list(range(10))


def test_feature_an_epoch_leaves_the_global_random_state_alone():
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    contents(loader(shuffle=True).epoch(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_feature_resuming_skips_batches_not_work():
    whole = contents(loader(shuffle=True).epoch(1))
    assert contents(loader(shuffle=True).epoch(1, first_batch=2)) == whole[2:]


class Counted(Shapes):
    """Writes down what is read."""

    def __init__(self, **args):
        super().__init__(**args)
        self.read = []

    def load(self, index):
        self.read.append(index)
        return super().load(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_feature_epochs_that_follow_without_a_gap_are_the_same(workers):
    apart = loader(shuffle=True)
    through = loader(shuffle=True, num_epochs=3, num_workers=workers)
    for epoch in (1, 2, 3):
        assert contents(through.epoch(epoch)) == contents(apart.epoch(epoch))
    # An epoch that is left in the middle, and another order of epochs, start anew.
    next(iter(through.epoch(1)))
    assert contents(through.epoch(1, first_batch=1)) == contents(apart.epoch(1))[1:]
    assert contents(through.epoch(3)) == contents(apart.epoch(3))


def test_feature_the_next_epoch_is_prepared_during_the_last_step_of_this_one():
    through = loader(num_epochs=2, num_workers=1)
    list(through.epoch(1))
    iterator = through._stream._items
    assert iterator is not None
    assert iterator._tasks_outstanding > 0
    list(through.epoch(2))
    assert through._stream is None
    assert iterator._tasks_outstanding == 0  # and nothing beyond the last


def test_feature_the_first_epoch_can_be_prepared():
    batches = loader(shuffle=True, num_workers=1)
    batches.prepare(2)
    iterator = batches._stream._items
    assert iterator._tasks_outstanding > 0
    assert contents(batches.epoch(2)) == contents(loader(shuffle=True).epoch(2))
    batches.prepare(1)
    assert contents(batches.epoch(2)) == contents(loader(shuffle=True).epoch(2))


class Broken(Shapes):
    """Some images cannot be read."""

    def __init__(self, bad, num_images=40):
        super().__init__(num_images=num_images, image_size=64)
        self.bad = bad

    def load(self, index):
        if index in self.bad:
            raise DataError(f"picture {index}: is cut off")
        return super().load(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_feature_bad_samples_are_replaced_in_training(workers, caplog):
    args = {"shuffle": True, "on_bad_sample": "skip", "num_epochs": 2}
    batches = loader(Broken({3, 17}), num_workers=workers, **args)
    first, second = (list(batches.epoch(epoch)) for epoch in (1, 2))
    for epoch in (first, second):
        assert [len(batch.indices) for batch in epoch] == [4] * 10
        seen = [i for batch in epoch for i in batch.indices.tolist()]
        assert not {3, 17} & set(seen)
        assert set(range(40)) - {3, 17} == set(seen)
    assert set(batches.bad) == {3, 17}
    assert caplog.text.count("skipped: picture 3: is cut off") == 1
    again = loader(Broken({3, 17}), **args)
    assert contents(again.epoch(1)) == contents(first)
    assert contents(again.epoch(2)) == contents(second)


@pytest.mark.parametrize("workers", [0, 2])
def test_feature_bad_samples_are_left_out_of_validation(workers):
    args = {"training": False, "on_bad_sample": "skip", "num_workers": workers}
    batches = loader(Broken({0, 1}), batch_size=2, **args)
    groups = list(batches.epoch(0))
    assert groups[0] == []
    assert [i for group in groups for b in group for i in b.indices.tolist()] == [*range(2, 40)]
    assert len(batches.bad) == 2
    assert batches.first_sample().index == 2


def test_exception_too_many_bad_samples():
    """One in twenty of 40 are two."""
    batches = loader(Broken({3, 17, 20}), on_bad_sample="skip")
    with pytest.raises(DataError, match=r"3 of 40 images cannot be used"):
        list(batches.epoch(1))
    with pytest.raises(DataError, match="picture 3: is cut off"):
        list(loader(Broken({3})).epoch(1))
    every = loader(Broken(set(range(40))), on_bad_sample="skip")
    with pytest.raises(DataError, match="drawn to replace"):
        list(every.epoch(1))


def test_exception_a_dataset_with_problems():
    dataset = Shapes(num_images=10)
    dataset.problems.append("1 picture has no mask")
    dataset.lost = 1
    with pytest.raises(DataError, match="1 picture has no mask"):
        loader(dataset)
    assert loader(dataset, on_bad_sample="skip").num_samples == 10
    dataset.lost = 2  # of twelve
    with pytest.raises(DataError, match="1 picture has no mask"):
        loader(dataset, on_bad_sample="skip")


def test_exception_pictures_that_are_lost_count_as_bad():
    """One in twenty of 41 are two."""
    dataset = Broken({3, 17})
    dataset.problems.append("1 picture has no mask")
    dataset.lost = 1
    with pytest.raises(DataError, match="3 of 41 images cannot be used"):
        list(loader(dataset, on_bad_sample="skip").epoch(1))


class Picky(Augmentation):
    """Refuses some images, in words that change from draw to draw."""

    def __call__(self, image, label, rng, *, partners=None, **rest):
        if image[0, 0, 0] in (1, 2):
            raise DataError(f"does not like {rng.random()}")
        partners[0]
        return image, label


def test_feature_a_sample_is_counted_once_whatever_is_said_of_it(caplog):
    class Numbered(Broken):
        def load(self, index):
            image, mask, _ = super().load(index)
            image[:] = index
            return image, mask

    batches = loader(Numbered(()), Picky(), on_bad_sample="skip")
    list(batches.epoch(1))
    list(batches.epoch(2))
    assert set(batches.bad) == {1, 2}
    assert "train_000001: does not like" in caplog.text
    # The file at fault is the partner's, and it is one however many samples ask for it.
    caplog.clear()
    with pytest.raises(DataError, match="drawn to replace .* picture 0: is cut off"):
        list(loader(Numbered({0}), Picky(), on_bad_sample="skip").epoch(1))


def test_feature_val_split_stays_when_pictures_are_added():
    """All but at most one of those held back are held back again, though all have moved."""

    def held(count):
        samples = [Sample(f"a/{i}", "") for i in reversed(range(count))]
        chosen = split_indices(samples, 0.2, held_out=True)
        assert sorted([*chosen, *split_indices(samples, 0.2, held_out=False)]) == list(range(count))
        return {samples[i].name for i in chosen}

    for count in range(50, 100):
        before, after = held(count), held(count + 1)
        assert len(before) == round(0.2 * count)
        assert len(before - after) <= 1


def test_exception_a_process_that_is_killed():
    class Deadly(Shapes):
        def load(self, index):
            if index == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().load(index)

    batches = loader(Deadly(num_images=40, image_size=64), num_workers=1)
    with pytest.raises(WorkerError, match="killed, .* fewer num_w"):
        list(batches.epoch(1))


@pytest.mark.parametrize("workers", [0, 2])
def test_feature_ram_cache_reads_each_picture_once_and_changes_nothing(workers):
    dataset = Counted(num_images=10, image_size=64)
    cached = loader(dataset, shuffle=True, cache="ram", num_workers=workers)
    plain = loader(shuffle=True)
    for epoch in (1, 2, 3):
        assert contents(cached.epoch(epoch)) == contents(plain.epoch(epoch))
    if workers == 0:
        assert sorted(dataset.read) == list(range(10))


def test_feature_disk_cache_outlives_the_loader(tmp_path):
    for i in range(4):
        save(tmp_path / f"images/{i}.png", image(i, (64, 64)))
        save(tmp_path / f"masks/{i}.png", ids(i, 3, (64, 64)))

    def make(cache):
        dataset = Folder(classes=3, data_dir=str(tmp_path))
        return loader(dataset, batch_size=2, cache=cache, cache_dir=str(tmp_path / "c"))

    plain = [contents(make(None).epoch(epoch)) for epoch in (1, 2)]
    assert [contents(make("disk").epoch(epoch)) for epoch in (1, 2)] == plain
    second = make("disk")
    second.source.load = None  # nothing is read again
    assert [contents(second.epoch(epoch)) for epoch in (1, 2)] == plain
    save(tmp_path / "images/0.png", image(9, (64, 64)))
    assert contents(make("disk").epoch(1)) == contents(make(None).epoch(1)) != plain[0]


def test_cardinality_uint8_pictures_and_integer_labels():
    batch = next(iter(loader().epoch(1)))
    assert batch.images.shape == (4, 48, 48, 3)
    assert batch.labels.shape == (4, 48, 48)
    assert batch.images.dtype == batch.labels.dtype == torch.uint8


def test_feature_whole_step_is_divided_over_processes():
    def ranks(world_size):
        samplers = [
            EpochBatches(range(11), 4, shuffle=True, seed=3, rank=r, world_size=world_size)
            for r in range(world_size)
        ]
        return [sorted(itertools.chain(*parts)) for parts in zip(*samplers, strict=True)]

    alone = ranks(1)
    assert [len(batch) for batch in alone] == [4, 4, 3]
    assert sorted(key for batch in alone for key in batch) == [(0, i) for i in range(11)]
    assert ranks(2) == alone
    assert ranks(4) == alone


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_feature_processes_share_whole_batches_where_nothing_is_trained(world_size):
    """Each batch is one that a single process has, and every one stands somewhere once."""

    def batches(rank, world_size):
        processes = {"rank": rank, "world_size": world_size}
        groups = list(loader(batch_size=3, training=False, **processes).epoch(0))
        return len(groups), [tuple(batch.indices.tolist()) for group in groups for batch in group]

    _, alone = batches(0, 1)
    assert [len(batch) for batch in alone] == [3, 3, 3, 1]
    shares = [batches(rank, world_size) for rank in range(world_size)]
    assert sorted(batch for _, share in shares for batch in share) == alone
    assert len({steps for steps, _ in shares}) == 1


def test_exception_batch_that_cannot_be_divided():
    with pytest.raises(ValueError, match=r"batch_size: 5 .* over 2 processes; use 4 or 6"):
        loader(batch_size=5, world_size=2)
    with pytest.raises(ValueError, match="give no batch of 16"):
        loader(batch_size=16, drop_last=True)


def test_feature_last_batches():
    def sizes(**options):
        return [len(batch.indices) for batch in loader(**options).epoch(1)]

    assert sizes(batch_size=3) == [3, 3, 3]  # 1 left out
    assert sizes(batch_size=4) == [4, 4, 2]
    assert sizes(batch_size=4, drop_last=True) == [4, 4]
    assert sizes(batch_size=1) == [1] * 10
    validation = loader(batch_size=3, training=False)
    assert [len(b.indices) for group in validation.epoch(0) for b in group] == [3, 3, 3, 1]
    assert validation.num_samples == 10
    assert loader(batch_size=3).num_samples == 9


def test_feature_val_split_holds_back_the_same_pictures():
    train, held = loader(val_split=0.3), loader(val_split=0.3, held_out=True, training=False)
    kept, apart = train.batches.indices.tolist(), held.batches.indices.tolist()
    assert len(apart) == 3 and sorted([*kept, *apart]) == list(range(10))
    other = loader(val_split=0.3, held_out=True, training=False, seed=9)
    assert set(other.batches.indices.tolist()) == set(apart)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_exception_one_picture_cannot_be_split(share):
    samples = [Sample("a", "a.jpg", "a.png")]
    message = f"val_split: {share} of 1 image .*trainer.val to false.*val_loader"
    with pytest.raises(DataError, match=message):
        split_indices(samples, share, held_out=False)
    assert split_indices(samples, share, held_out=True) == [0]  # a checkpoint's share can be scored
    assert split_indices(samples, None, held_out=False) == [0]


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_exception_a_share_that_leaves_nothing(count):
    samples = [Sample(str(n), f"{n}.jpg", f"{n}.png") for n in range(count)]
    with pytest.raises(DataError, match=f"val_split: 0.99 of {count} images") as caught:
        split_indices(samples, 0.99, held_out=False)
    most = float(re.findall(r'"val_split": ([0-9.]+)', str(caught.value))[0])
    assert split_indices(samples, most, held_out=False)


def test_feature_validation_groups_sizes_without_padding():
    dataset = Mixed()
    dataset.samples.pop()
    (group,) = loader(dataset, Augmentation(val=True), batch_size=5, training=False).epoch(0)
    assert [tuple(batch.images.shape) for batch in group] == [(3, 8, 8, 3), (2, 8, 10, 3)]
    assert [batch.indices.tolist() for batch in group] == [[0, 2, 4], [1, 3]]


@pytest.mark.parametrize("workers", [0, 1])
def test_exception_errors_come_through_workers_as_one_line(workers):
    for batch_size, message in ((1, "^s5: is broken$"), (2, "10x8 and 8x8|8x8 and 10x8")):
        batches = loader(Mixed(), Augmentation(), batch_size=batch_size, num_workers=workers)
        with pytest.raises(DataError, match=message):
            list(batches.epoch(1))


def test_feature_more_workers_than_cores(caplog):
    assert loader(num_workers=500).num_workers < 500
    assert "num_workers: 500" in caplog.text


def test_feature_padding_is_never_a_class(tmp_path):
    """pytorch-segmentation turned a fifth of such a label into class 0."""

    class Constant(BaseDataset):
        classes = tuple("abcdef")
        palette = ((0, 0, 0),) * 6

        def load(self, index):
            return np.full((20, 30, 3), 9, np.uint8), np.full((20, 30), 5, np.uint8)

    for ignore_index in (255, -1):
        dataset = Constant([Sample("x", "x", "x")] * 50)
        augmentation = Augmentation(**{**USUAL, "base_size": 64, "crop_size": 64})
        (batch,) = loader(dataset, augmentation, batch_size=50, ignore_index=ignore_index).epoch(1)
        assert set(batch.labels.unique().tolist()) == {5, ignore_index}


def test_feature_real_files_through_workers(real_data):
    dataset = VOC(str(real_data / "voc2012_layout"), "trainval")
    augmentation = Augmentation(**{**USUAL, "base_size": 400, "crop_size": 380})
    for batch in loader(dataset, augmentation, batch_size=3, num_workers=1).epoch(1):
        assert batch.images.shape == (3, 380, 380, 3)
        assert ((batch.labels < 21) | (batch.labels == 255)).all()
