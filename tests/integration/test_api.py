"""`import bigtrain as bt`: the README's lines, and one-line errors."""

import json
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import bigtrain as bt
from bigtrain.config import load_training
from bigtrain.core.config import read_yaml
from bigtrain.core.errors import UserError
from bigtrain.distributed.init import join_ranks, leave_ranks
from bigtrain.evaluation.evaluator import ScoreConfig
from bigtrain.run.watch import Watch, scores_for
from bigtrain.tracking.spool import WATCH_NAME, read_records
from data_pipelines.errors import DataError
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import ROOT, tiny_source

NEVER = {"interval_kimg": 0}
TRANSLATION = {
    "task": "translation",
    "input": "image",
    "target": "image",
    "generator": {"kind": "resnet_translator", "width": 4, "blocks": 1},
    "conditional": False,
    "objective": {"terms": {"l1": {}}},
    "optim": {"G": {"lr": 1e-3}},
}
CYCLEGAN = {
    "task": "unpaired",
    "generator": {"kind": "resnet_translator", "width": 4, "blocks": 1},
    "discriminator": {"kind": "patch", "width": 4, "layers": 1, "norm": "instance"},
    "objective": {"adversarial": "least_squares", "pool": 4},
    "optim": {"G": {"lr": 1e-3}, "D": {"lr": 1e-3}},
}
PIXELS = """
import torch

class Pixels(torch.nn.Module):
    def forward(self, image):
        return torch.nn.functional.adaptive_avg_pool2d(image.float() / 255, 2).flatten(1)

build = Pixels
"""
"""An extractor of a few features that costs nothing."""


def config(data: Path, folder: Path, task: Mapping[str, Any] = TRANSLATION, /, **changes: Any) -> dict[str, Any]:
    """The config of a run of four steps."""
    return {
        "run_dir": str(folder),
        "total_kimg": 0.032,
        "global_batch": 8,
        "micro_batch": 8,
        "data": {"path": str(data), "resolution": 8, "channels": 1},
        "strategy": {"kind": "single"},
        "ema": {"half_life_kimg": 0.02},
        "log": {"interval_kimg": 0.016},
        "preview": NEVER,
        "eval": NEVER,
        "checkpoint": {"interval_kimg": 0.016},
        "snapshot": NEVER,
        "tracking": {"mlflow": False, "system_seconds": 0},
        "health": {"images": 16, "neighbours": 40},
        **task,
        **changes,
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_shards(tiny_source(), folder, ShardOptions(shard_samples=25))
    return folder


def test_the_lines_in_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = re.findall(r"```python\n(import bigtrain as bt\n.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len([line for line in lines.splitlines() if line]) <= 10
    small = (ROOT / "configs" / "quickstart.yaml").read_text()
    for big, little in {
        "total_kimg: 150": "total_kimg: 0.128\ntracking: {mlflow: false}",
        "width: 32": "width: 4",
        "interval_kimg: 50\n  samples: 1000\n  reference_samples: 2000": "interval_kimg: 0",
        "images: 64\n  neighbours: 250": "images: 16\n  neighbours: 20",
    }.items():
        assert big in small
        small = small.replace(big, little)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text(small)
    for big, little in {
        "samples=1000, reference_samples=2000": "samples=40",
        '"data/fashion-mnist-10k")\nrun': '"data/fashion-mnist-10k", max_samples=80, workers=1)\nrun',
    }.items():
        assert big in lines
        lines = lines.replace(big, little)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["run"].complete
    assert names["run"].snapshot == Path("runs/python/snapshots/kimg000000.128")
    assert read_yaml("runs/python/config.yaml")["optim"]["G"]["lr"]["value"] == 1e-3
    assert names["images"].shape == (16, 1, 32, 32)
    assert names["images"].dtype == torch.float32
    assert [name for name in names["scores"] if "fid40" in name]
    assert not dist.is_initialized()


def test_a_translator_is_trained_stopped_resumed_and_applied(tiny: Path, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    stopped = bt.train(config(tiny, tmp_path / "run"), stop_at_kimg=0.016)
    assert (stopped.complete, stopped.snapshot) == (False, None)
    run = bt.train(config(tiny, tmp_path / "run"))
    assert run.complete
    assert run.folder == tmp_path / "run"
    assert signal.getsignal(signal.SIGINT) is handler
    assert run.snapshot is not None
    model = bt.load(run.snapshot, device="cpu")
    images = torch.rand(3, 1, 10, 13) * 2 - 1
    made = model.apply(images, batch=2)
    assert made.shape == images.shape
    torch.testing.assert_close(model.apply(images[2:]), made[2:], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"reads images \[N, 1, H, W\], not \[3, 3, 8, 8\]"):
        model.apply(torch.zeros(3, 3, 8, 8))
    with pytest.raises(UserError, match="which cannot generate from seeds"):
        model.sample(2)


def scored(path: Path, **changes: Any) -> dict[str, Any]:
    """What a run of 16 samples an evaluation computes."""
    path.write_text(PIXELS)
    return {"interval_kimg": 0.032, "samples": 16, "extractor": f"file:{path}", **changes}


def watch(run: Path) -> dict[str, float]:
    """Score a complete run's snapshots beside it, and return the scores."""
    training = load_training(run / "config.yaml")
    ranks = join_ranks()
    scores = scores_for(training, ScoreConfig(extractor=training.eval.extractor))
    assert Watch(run, training, scores, ranks).until_the_end()
    leave_ranks(failed=False)
    records = [record for record, _ in read_records(run / WATCH_NAME)]
    return {record["key"]: record["score"]["value"] for record in records if record["kind"] == "score"}


def test_a_translator_is_scored_after_training_as_in_it(tiny: Path, tmp_path: Path) -> None:
    evaluation = scored(tmp_path / "pixels.py", pairs=["psnr"])
    run = bt.train(config(tiny, tmp_path / "run", eval=evaluation))
    assert {name.partition("/")[0] for name in run.scores} <= {"eval", "interval"}
    own = {name: value for name, value in run.scores.items() if name.startswith("eval/")}
    assert list(own) == ["eval/fid16_full_pixels", "eval/psnr"]
    assert run.snapshot is not None
    settings = {"samples": 16, "pairs": ["psnr"], "extractor": evaluation["extractor"]}
    after = bt.evaluate(run.snapshot, **settings)
    assert {name: score.value for name, score in after.items()} == own
    assert watch(run.folder) == own
    with pytest.raises(UserError, match="the sampler 'translation' has no choice 'truncation'; it has noise"):
        bt.evaluate(run.snapshot, **settings, truncation=0.7)


def test_both_directions_of_a_cyclegan_are_scored(tiny: Path, tmp_path: Path) -> None:
    evaluation = scored(tmp_path / "pixels.py", best="fid/A.image")
    stream = {"path": str(tiny), "resolution": 8, "channels": 1}
    streams = {"streams": {"A": stream, "B": stream}}
    run = bt.train(config(tiny, tmp_path / "run", CYCLEGAN, eval=evaluation, data=streams))
    own = {name: value for name, value in run.scores.items() if name.startswith("eval/")}
    assert list(own) == ["eval/fid16_full_pixels/B.image", "eval/fid16_full_pixels/A.image"]
    best = json.loads((run.folder / "snapshots" / "best" / "snapshot.json").read_text())
    assert best["scores"].keys() == own.keys()
    health = json.loads((run.folder / "health.json").read_text())
    symptoms = {line["symptom"] for line in health["symptoms"]}
    assert {"generator_wins/D_A", "generator_wins/D_B", "mode_collapse/A.image", "mode_collapse/B.image"} <= symptoms
    assert run.snapshot is not None
    settings = {"samples": 16, "extractor": evaluation["extractor"]}
    after = bt.evaluate(run.snapshot, **settings)
    assert {name: score.value for name, score in after.items()} == own
    assert watch(run.folder) == own
    elsewhere = bt.evaluate(run.snapshot, {"A": tiny, "B": tiny}, **settings)
    assert elsewhere.keys() == own.keys()
    with pytest.raises(UserError, match="trained on A.image, B.image; give the data as A=DIR B=DIR"):
        bt.evaluate(run.snapshot, tiny, **settings)
    with pytest.raises(UserError, match="pairs psnr: the outputs have no targets"):
        bt.evaluate(run.snapshot, **settings, pairs=["psnr"])
    with pytest.raises(UserError, match="eval.best 'fid': the evaluation does not compute it"):
        bt.train(config(tiny, tmp_path / "other", CYCLEGAN, eval={**evaluation, "best": "fid"}, data=streams))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda data: bt.train(ROOT / "tests" / "tiny.yaml", run_dri="x"),
            "unknown key 'run_dri' (did you mean 'run_di",
        ),
        (lambda data: bt.train(ROOT / "tests" / "tny.yaml"), "tny.yaml: no such file (did you mean 'tiny.yaml'?)"),
        (lambda data: bt.train(config(data, data), **{"optim.G.lr": "x"}), "config: 'optim.G.lr"),
        (lambda data: bt.train(config(data, data)), "exists and is not a run folder"),
        (lambda data: bt.load("nowhere"), "nowhere: not a snapshot folder"),
        (lambda data: bt.evaluate("nowhere", data, metrics=["fdi"]), "unknown metric 'fdi' (did you mean 'fid'?)"),
        (lambda data: bt.evaluate("nowhere", data), "nowhere: not a snapshot folder"),
        (lambda data: bt.prepare("fashion-mnist-10k", data, tst=3), "unknown option 'tst'"),
        (lambda data: bt.prepare("fashion-mnst", data), "unknown dataset 'fashion-mnst' (did you mean"),
    ],
)
def test_a_mistake_is_one_line(call: Callable[[Path], Any], words: str, tiny: Path) -> None:
    with pytest.raises((UserError, DataError)) as caught:
        call(tiny)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not dist.is_initialized()


def test_overrides_merge_but_for_another_kind(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        bt.train(
            config(tiny, tmp_path),
            generator={"kind": "pix2pix_unet", "dwns": 3},
            optim={"D": {"lr": 1.0}},
            **{"data.chanels": 1},
        )
    assert str(caught.value) == (
        "config: unknown key 'data.chanels' (did you mean 'data.channels'?)"
        " (and 1 more: unknown key 'generator.dwns' (did you mean 'generator.downs'?))"
    )


def test_a_process_group_of_others_is_refused(alone: None, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="already has a process group"):
        bt.train(config(tiny, tmp_path / "run"))
    assert dist.is_initialized()


def test_train_stays_a_function_when_the_module_of_that_name_is_imported() -> None:
    import bigtrain.train

    assert callable(bt.train)
    assert sys.modules["bigtrain.train"] is not bt.train
    assert bigtrain.train is bt.train
