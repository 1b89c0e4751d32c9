"""Keys and passwords in configs and messages."""

import pytest

from tests.utils.config.test_check_config import check, minimal, problems_of, with_value
from utils.config.secrets import hide_secrets

HEX = "0123456789abcdef" * 2 + "abcdef01"


@pytest.mark.parametrize(
    ("path", "value", "variable"),
    [
        ("trainer.wandb", {"api_key": "x"}, "WANDB_API_KEY"),
        ("trainer.wandb", {"tags": ["a", HEX]}, "WANDB_API_KEY"),
        ("trainer.wandb", {"name": f"local-{HEX}"}, "WANDB_API_KEY"),
        ("trainer.wandb", {"group": "wandb_v1_aB3dE6"}, "WANDB_API_KEY"),
        ("trainer.wandb", {"apiKey": "x"}, "WANDB_API_KEY"),
        ("trainer.wandb_token", "x", "WANDB_API_KEY"),
        ("wandb_key", HEX, "WANDB_API_KEY"),
        ("trainer.mlflow", {"tracking_uri": "http://me:pw12@host"}, "MLFLOW_TRACKING_PASSWORD"),
        ("trainer.mlflow", {"tracking_uri": "postgresql://me:pw12@host/db"}, "MLFLOW_TRACKING_URI"),
        ("trainer.mlflow", {"password": "pw12"}, "MLFLOW_TRACKING_PASSWORD"),
        ("trainer.mlflow", {"tags": {"a": f"dapi{HEX[:32]}"}}, "MLFLOW_TRACKING_TOKEN"),
    ],
)
def test_exception_a_key_in_the_config(path, value, variable):
    (problem,) = problems_of(with_value(path, value))
    assert problem.startswith(path) and variable in problem
    assert HEX[:32] not in problem and "pw12" not in problem and "aB3dE6" not in problem


def test_feature_what_is_no_key_passes():
    tree = minimal()
    tree["trainer"]["wandb"] = {
        "name": "unet_resnet50_camvid_lr0001_bs16_augmented_v2_seed3", "project": "keys-of-pianos",
        "tags": ["a-b", "1" * 50], "group": "me@host",
    }  # fmt: skip
    tree["trainer"]["mlflow"] = {"tracking_uri": "http://host:5000", "experiment": "a: b@c",
                                 "tags": {"monkey": "x", "keyword": "y"}}  # fmt: skip
    assert check(tree).warnings == ()


def test_feature_messages_have_no_keys(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok3n")
    text = hide_secrets("POST https://me:pw@host/x?t=tok3n failed; see https://host/a:b@c")
    assert text == "POST https://host/x?t=<MLFLOW_TRACKING_TOKEN> failed; see https://host/a:b@c"
