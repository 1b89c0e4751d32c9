"""What an answer is made of, and its largest size."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import serving.answer
from prediction.products.kinds import Settings, parse_save
from prediction.products.rows import ImageFacts, Rows
from serving.answer import OpenAnswer, Wanted
from serving.refusal import Refusal

PALETTE = ((1, 2, 3), (4, 5, 6))
IDS = np.tile(np.array([0, 1], np.uint8), (40, 30))


def opened(folder, *words):
    kinds = dict(zip(words, parse_save(",".join(words), ("a", "b")), strict=True))
    facts = ImageFacts(Path("x"), Path("x"), *IDS.shape, ("a", "b"), PALETTE)
    return OpenAnswer(Wanted(words, kinds, Settings(), False), folder, facts)


def test_exception_an_answer_that_is_too_large(tmp_path, monkeypatch):
    """Of probabilities it is known before anything is written, of others at their end."""
    answer = opened(tmp_path, "ids.npy")
    answer.write(Rows(0, IDS))
    monkeypatch.setattr(serving.answer, "MAX_ANSWER", IDS.size)  # a NPY has a header, too
    with pytest.raises(Refusal) as refused:
        answer.finish("m")
    assert refused.value.status == 413 and str(IDS.size) in refused.value.message
    with pytest.raises(Refusal) as refused:
        opened(tmp_path, "probabilities")
    assert str(2 * 2 * IDS.size) in refused.value.message
    assert not list(tmp_path.glob("*probabilities*"))


def test_exception_too_many_regions(server):
    """Of an image of noise: they are counted, and not drawn for minutes."""
    noise = np.random.default_rng(0).integers(0, 2, (1000, 1000), dtype=np.uint8) * 255
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    answer = server.predict(buffer.getvalue(), products="polygons")
    assert answer.status_code == 422 and "min_area" in answer.json()["error"]
    assert "/" not in answer.json()["error"]
    answer = server.predict(buffer.getvalue(), products="polygons", min_area="200")
    assert answer.status_code == 200


def test_feature_one_product_is_its_file(tmp_path):
    answer = opened(tmp_path, "ids.npy")
    answer.write(Rows(0, IDS[:10]))
    answer.write(Rows(10, IDS[10:]))
    made = answer.finish("m")
    assert made.body == (tmp_path / "image.npy").read_bytes()
    assert np.array_equal(np.load(tmp_path / "image.npy", allow_pickle=False), IDS)
