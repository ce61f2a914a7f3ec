"""What a config says of its data, and what is found wrong with it before anything starts."""

from pathlib import Path

import pytest

from bigtrain.build import check
from bigtrain.config import load_training, parse_training
from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.errors import UserError
from bigtrain.engine.shards_config import ShardsConfig
from bigtrain.engine.stream_config import Share
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.sampling import Shares
from tests.conftest import ROOT


def data(**entries: object) -> ShardsConfig:
    return parse_config(ShardsConfig, {"path": "x", "resolution": 8, **entries}, source="test")


@pytest.mark.parametrize(
    ("sampling", "shares"),
    [
        ({"kind": "shuffle"}, None),
        ({"kind": "balanced"}, Shares({})),
        ({"kind": "weighted", "weights": {"cat": 2.0}, "others": 0.0}, Shares({"cat": 2.0}, 0.0)),
    ],
)
def test_sampling_becomes_shares(sampling: dict[str, object], shares: Shares | None) -> None:
    plan = data(sampling=sampling, max_images=7, cache={"folder": "/scratch"}).plan(Share(seed=3, global_batch=8))
    assert plan.shares == shares
    assert (plan.max_images, plan.cache.folder, plan.on_corrupt) == (7, "/scratch", "replace")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"sampling": {"kind": "ballanced"}}, "unknown sampling.kind 'ballanced' (did you mean 'balanced'?)"),
        ({"sampling": {"kind": "weighted", "weights": {"cat": -1.0}}}, "greater than or equal to 0"),
        ({"label_dropout": 1.5}, "less than or equal to 1"),
        ({"max_images": 0}, "greater than 0"),
        ({"loader": "fibres"}, "'loader': input should be 'threads' or 'processes'"),
        ({"on_corrupt": "skip"}, "'on_corrupt': input should be 'replace' or 'fail'"),
        ({"cache": {"max_byte": 5}}, "did you mean 'cache.max_bytes'?"),
    ],
)
def test_a_mistake_is_named(entries: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        data(**entries)
    assert words in str(caught.value)


def checked(fashion: Path, tmp_path: Path, *overrides: str) -> None:
    fixed = [f"data.path={fashion}", f"run_dir={tmp_path / 'run'}"]
    config = load_training(ROOT / "tests" / "tiny.yaml", [*fixed, *overrides])
    check(config, world_size=1, allow_change=False)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("eval.extractor=inception-v3-compat", "the weights of inception-v3-compat are not in"),
        ("eval.extractor=file:mine.py", "extractor file:mine.py: no such file"),
        ("eval.pairs=[psnr]", "eval.pairs: the task 'synthesis' has no targets to compare its outputs with"),
    ],
)
def test_scores_that_cannot_be_made_are_found_before_the_start(
    fashion: Path, tmp_path: Path, override: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        checked(fashion, tmp_path, override)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.sampling={kind: weighted, weights: {Trousers: 2}}", "class 'Trousers', but the classes are"),
        ("data.sampling={kind: weighted, weights: {}, others: 0}", "has a weight above 0"),
        ("data.max_images=10001", "10001 images was requested, but the dataset has 9900"),
    ],
)
def test_what_does_not_fit_the_data_is_found_before_the_start(
    fashion: Path, tmp_path: Path, override: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        checked(fashion, tmp_path, override)
    checked(fashion, tmp_path)


def test_the_former_way_to_name_learning_rates_is_read() -> None:
    quickstart = load_training(ROOT / "configs" / "quickstart.yaml")
    former = {**quickstart.model_dump(mode="json"), "optim": {"lr_g": 3e-4, "lr_d": 1e-4, "beta1": 0.5}}
    optim = parse_training(former, source="test").optim
    assert {name: one.settings_at(0, 1, global_batch=8)["lr"] for name, one in optim.items()} == {"G": 3e-4, "D": 1e-4}
    assert optim["G"].settings_at(0, 1, global_batch=8)["betas"][0] == 0.5
    with pytest.raises(ConfigError, match=r"optim\.lr_g"):
        parse_training({**former, "optim": {"lr_g": 3e-4}}, source="test")


def test_only_images_need_a_resolution() -> None:
    sounds = {"path": "x", "fields": {"sound": {"kind": "audio", "shape": [1, 256], "rate": 8000}}}
    config = parse_config(ShardsConfig, sounds, source="test")
    assert config.field_specs()["sound"] == FieldSpec("audio", (1, 256), "int16", rate=8000)
    for fields in (None, {"image": {"kind": "image"}}):
        with pytest.raises(ConfigError, match="resolution is missing: the height of the images"):
            parse_config(ShardsConfig, {"path": "x", "fields": fields}, source="test")
    with pytest.raises(ConfigError, match="rate: fields of the kind 'array' have no sample rate"):
        parse_config(
            ShardsConfig, {"path": "x", "fields": {"a": {"kind": "array", "shape": [2], "rate": 1}}}, source="test"
        )
