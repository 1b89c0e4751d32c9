"""Work in other threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from prediction.cluster.in_order import in_order


def test_feature_results_come_in_order():
    def work(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    with ThreadPoolExecutor(3) as pool:
        assert list(in_order(pool, work, range(40), 5)) == [n * n for n in range(40)]


def test_feature_only_so_many_are_taken_ahead():
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, lambda number: number, items(), 4)
        assert next(results) == 0 and len(taken) == 5
        assert next(results) == 1 and len(taken) == 6
        assert list(results) == list(range(2, 20))


def test_feature_work_is_done_at_the_same_time():
    """Both have to be there at once, or neither passes."""
    together = threading.Barrier(2, timeout=20)
    with ThreadPoolExecutor(2) as pool:
        assert len(list(in_order(pool, lambda _: together.wait(), range(4), 2))) == 4


def test_exception_an_error_comes_in_its_turn():
    def work(number):
        return 10 // number

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, work, (5, 0, 2), 1)
        assert next(results) == 2
        with pytest.raises(ZeroDivisionError):
            next(results)
