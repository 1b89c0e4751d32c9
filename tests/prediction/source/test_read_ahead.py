import threading

import pytest

from prediction.source.read_ahead import ReadAhead


def test_feature_order():
    with ReadAhead(iter(range(200)), 3) as ahead:
        assert list(ahead) == list(range(200))
        assert ahead.dropped == 0


def test_feature_so_many_wait():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with ReadAhead(items(), 3) as ahead:
        each = iter(ahead)
        assert next(each) == 0
        assert len(made) <= 1 + 3 + 1
    assert len(made) <= 1 + 3 + 1  # nobody takes the others


def test_feature_only_the_newest():
    """The first is taken, nine come, and one is left."""
    taken, all_made = threading.Event(), threading.Event()

    def items():
        yield 0
        taken.wait()
        yield from range(1, 10)
        all_made.set()

    with ReadAhead(items(), 1, newest=True) as ahead:
        each = iter(ahead)
        assert next(each) == 0
        taken.set()
        all_made.wait()
        assert list(each) == [9]
        assert ahead.dropped == 8


def test_exception_comes_after_the_items():
    def items():
        yield 1
        raise ValueError("broken")

    with ReadAhead(items(), 3) as ahead:
        each = iter(ahead)
        assert next(each) == 1
        with pytest.raises(ValueError, match="broken"):
            next(each)


def test_feature_ends_with_the_context():
    """Also while the thread waits for room."""
    with ReadAhead(iter(range(100)), 1) as ahead:
        pass
    assert not ahead._thread.is_alive()
