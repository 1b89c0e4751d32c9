import numpy as np

from tests.utils.transforms.cases import identity
from utils.transforms.rotate_and_flip import Turns


def draw_turns(rng, **settings):
    """What is drawn: mirrored or not, and the number of quarter turns."""
    geometry = Turns(**settings).geometry(identity(30, 40), rng, None)
    return geometry.vertical_flip, geometry.quarter_turns


class TestTurns:
    def test_cardinality_draws(self):
        rng = np.random.default_rng(0)
        drawn = [draw_turns(rng, vertical_flip=True, rotate90=True) for _ in range(2000)]
        assert {quarters for _, quarters in drawn} == {0, 1, 2, 3}
        for quarters in range(4):
            assert 0.2 < np.mean([q == quarters for _, q in drawn]) < 0.3
        assert 0.45 < np.mean([flip for flip, _ in drawn]) < 0.55
        assert draw_turns(rng) == (False, 0)

    def test_feature_one_switch_leaves_the_other_draw(self):
        for seed in range(20):
            both, one = (
                draw_turns(np.random.default_rng(seed), vertical_flip=flip, rotate90=True)
                for flip in (True, False)
            )
            assert both[1] == one[1]
