"""What was begun and has not come to an end."""

from prediction.cluster.attempts import Attempts


def test_feature_a_call_whose_process_died_is_repeated():
    attempts = Attempts()
    assert not attempts.begin(["a", "b"])
    assert not attempts.begin(["c"])
    assert attempts.begin(["a", "b"])
    attempts.end(["a", "b"])
    assert not attempts.begin(["a", "b"])
    assert attempts.begin(["c"])


def test_feature_deaths_of_one_image_are_counted():
    attempts = Attempts()
    attempts.begin(["a", "b"])
    assert [attempts.begin_alone("a") for _ in range(3)] == [0, 1, 2]
    assert attempts.begin_alone("b") == 0
    attempts.end_alone("b")
    assert attempts.begin_alone("b") == 0
    attempts.end(["a", "b"])
    assert attempts.begin_alone("a") == 0


def test_feature_deaths_of_loading_are_counted_until_one_has_loaded():
    attempts = Attempts()
    assert [attempts.load() for _ in range(3)] == [0, 1, 2]
    attempts.loaded()
    assert attempts.load() == 0
