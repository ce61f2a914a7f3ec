"""Probes: classifiers of a set's own classes, whose features scores are computed in."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.evaluator import Evaluator, ScoreConfig
from bigtrain.evaluation.extractors import build_extractor, runs_code
from bigtrain.evaluation.images.generated import GeneratedImages
from bigtrain.evaluation.outputs import stored_as
from bigtrain.evaluation.probes.file import read_probe, write_probe
from bigtrain.evaluation.probes.network import ProbeNetwork
from bigtrain.evaluation.probes.training import ProbeSettings, train_probe
from bigtrain.evaluation.protocol import Sampling
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.read import ShardDataset
from data_pipelines.write import write_shards

CPU = torch.device("cpu")
ALONE = Ranks(0, 1, 0, CPU)
RATE = 4000
SPEC = FieldSpec("audio", (1, 256), "int16", rate=RATE, codec="flac")
HERTZ = (250.0, 800.0)


def hums(hertz: torch.Tensor, seed: int) -> torch.Tensor:
    """Return sounds of these pitches, in noise, [N, 1, 256]."""
    chance = torch.Generator().manual_seed(seed)
    phase = torch.rand(len(hertz), 1, generator=chance) + torch.arange(256) / RATE * hertz[:, None]
    noise = torch.randn(len(hertz), 256, generator=chance)
    return (0.3 * (2 * torch.pi * phase).sin() + 0.05 * noise)[:, None]


def write_hums(folder: Path, count: int, seed: int, classes: tuple[str, ...] = ("low", "high")) -> Path:
    label = np.arange(count) % 2
    sounds = stored_as(SPEC, hums(torch.tensor(HERTZ)[label], seed)).numpy()
    source = from_fields("hums", {"audio": sounds}, {"audio": SPEC}, label if classes else None, classes=classes)
    write_shards(source, folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of hums, and a probe of them."""
    root = tmp_path_factory.mktemp("probes")
    for name, count, seed in (("train", 64, 1), ("test", 32, 2)):
        write_hums(root / name, count, seed)
    write_hums(root / "plain", 8, 3, classes=())
    write_hums(root / "others", 8, 3, classes=("a", "b"))
    settings = ProbeSettings(dataset=root / "train", held_out=root / "test", epochs=4, batch=16, lr=0.01)
    write_probe(root / "probe.safetensors", *train_probe(settings, CPU))
    return root


@pytest.mark.parametrize(
    "spec",
    [
        FieldSpec("audio", (2, 300), "float32", rate=8000),
        FieldSpec("image", (3, 24, 16), "uint8"),
        FieldSpec("array", (12,), "float32"),
        FieldSpec("array", (4, 33), "float32"),
        FieldSpec("array", (1, 8, 8, 8), "float32"),
        FieldSpec("video", (5, 3, 16, 8), "uint8"),
    ],
    ids=lambda spec: f"{spec.kind}-{spec.size_words}",
)
def test_a_probe_looks_at_fields_of_any_axes(spec: FieldSpec) -> None:
    network = ProbeNetwork(spec, 3, width=4)
    stored = torch.from_numpy(np.random.default_rng(0).integers(0, 100, (4, *spec.shape)).astype(spec.dtype))
    network.standardise_for(stored)
    x = network.input_of(stored)
    assert network(x).shape == (4, 3)
    assert network.pool(x).shape == (4, network.features)
    standard = (x - network.mean) / network.deviation
    assert abs(float(standard.mean())) < 1e-3
    assert float(standard.std()) == pytest.approx(1, abs=1e-3)


def test_features_of_clips_tell_the_order_of_the_frames() -> None:
    """A Fréchet distance of them is one of motion, as FVD is, and not of frames alone."""
    spec = FieldSpec("video", (6, 1, 16, 16), "uint8")
    network = ProbeNetwork(spec, 3, width=4).eval()
    clip = torch.zeros(1, *spec.shape, dtype=torch.uint8)
    for number in range(6):
        clip[0, number, :, :, 2 * number : 2 * number + 4] = 255  # a bar that moves to the right
    one, other, still = (
        network.pool(network.input_of(x)) for x in (clip, clip.flip(1), clip[:, :1].expand_as(clip).contiguous())
    )
    assert (one - other).abs().max() > 0.01 * one.abs().max()
    assert (one - still).abs().max() > 0.01 * one.abs().max()


def test_a_probe_learns_the_classes_and_says_how_well(place: Path) -> None:
    network, about = read_probe(place / "probe.safetensors")
    assert about.accuracy > 0.9
    assert (about.classes, about.field, about.spec) == (("low", "high"), "audio", SPEC)
    assert (about.trained_on, about.measured_on) == (64, 32)
    assert about.dataset == ShardDataset(place / "train").manifest.digest
    assert about.held_out == ShardDataset(place / "test").manifest.digest
    assert not network.training
    assert not runs_code(f"file:{place / 'probe.safetensors'}")


def test_without_classes_a_probe_learns_to_tell_samples_apart(place: Path, tmp_path: Path, alone: None) -> None:
    write_hums(tmp_path / "plain", 64, 1, classes=())
    write_hums(tmp_path / "plain-test", 32, 2, classes=())
    found = {}
    for epochs in (1, 12):
        settings = ProbeSettings(dataset=tmp_path / "plain", held_out=tmp_path / "plain-test", epochs=epochs, lr=0.01)
        found[epochs], about = train_probe(settings, CPU)
        write_probe(tmp_path / f"{epochs}.safetensors", found[epochs], about)
        assert about.classes == ()
    early, late = (read_probe(tmp_path / f"{epochs}.safetensors")[1].accuracy for epochs in found)
    assert late > max(early, 2 / 32)  # chance is 1/32
    file = f"file:{tmp_path / '12.safetensors'}"
    evaluator(place, metrics=("fid", "density_coverage"), extractor=file)
    for metric in ("class_accuracy", "inception_score"):
        with pytest.raises(EvaluationError, match=r"needs the layer '\w+', probe:12.safetensors offers pool"):
            evaluator(place, metrics=(metric,), extractor=file)


def test_the_same_command_makes_the_same_probe(place: Path, tmp_path: Path) -> None:
    settings = ProbeSettings(dataset=place / "train", epochs=1, batch=16)
    written = []
    for name in "ab":
        network, about = train_probe(settings, CPU)
        write_probe(tmp_path / f"{name}.safetensors", network, about)
        written.append((tmp_path / f"{name}.safetensors").read_bytes())
        assert about.measured_on == 13  # a fifth of 64
    assert written[0] == written[1]


def evaluator(place: Path, data: str = "train", **changes: object) -> Evaluator:
    config = ScoreConfig(
        metrics=("fid", "density_coverage", "class_accuracy"),
        samples=64,
        extractor=f"file:{place / 'probe.safetensors'}",
    )
    return Evaluator(config.model_copy(update=changes), ShardDataset(place / data), ALONE, field="audio")


def scores(place: Path, hertz_of: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
    def generate(draws: object) -> tuple[torch.Tensor, torch.Tensor]:
        label = draws.index % 2  # type: ignore[attr-defined]
        return hums(hertz_of(label), int(draws.index[0])), label  # type: ignore[attr-defined]

    generated = GeneratedImages(
        generate, 64, seed=0, device=CPU, classes=("low", "high"), stored=lambda made: stored_as(SPEC, made)
    )
    found = evaluator(place).run(generated, Sampling())
    assert all(score.protocol.extractor == "probe:probe.safetensors" for score in found.values())
    assert {score.protocol.quantisation for score in found.values()} == {"int16, rounded"}
    return {name.split("64")[0].removeprefix("eval/"): score.value for name, score in found.items()}


def test_scores_in_a_probes_features_tell_good_from_collapsed(place: Path, alone: None) -> None:
    good = scores(place, lambda label: torch.tensor(HERTZ)[label])
    collapsed = scores(place, lambda label: torch.full_like(label, HERTZ[0], dtype=torch.float32))
    assert good["class_accuracy"] > 0.9
    assert good["class_accuracy_real"] > 0.9
    assert collapsed["class_accuracy"] < 0.65
    assert collapsed["fid"] > 10 * good["fid"]
    assert collapsed["coverage"] < good["coverage"] - 0.2


def test_a_probe_scores_only_what_it_knows(place: Path) -> None:
    with pytest.raises(EvaluationError, match=r"efficientnet-lite0 reads images, but 'audio' is audio: bigtrain probe"):
        evaluator(place, extractor="efficientnet-lite0", metrics=("fid",))
    with pytest.raises(
        EvaluationError, match=r"class_accuracy: probe:\S+ was trained on the classes low, high, but the data have a, b"
    ):
        evaluator(place, "others")
    evaluator(place, "others", metrics=("fid",))
    with pytest.raises(EvaluationError, match="needs the layer 'own_logits', efficientnet-lite0 offers pool, logits"):
        Evaluator(
            ScoreConfig(metrics=("class_accuracy",), samples=64, extractor="efficientnet-lite0"),
            ShardDataset(_images(place)),
            ALONE,
        )


def _images(place: Path) -> Path:
    if not (place / "images").exists():
        spec = FieldSpec("image", (1, 8, 8), "uint8", codec="png")
        pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
        write_shards(
            from_fields("images", {"image": pixels}, {"image": spec}, [0, 1] * 4, classes="ab"), place / "images"
        )
    return place / "images"


def test_an_image_extractor_does_not_read_a_probe_of_other_sounds(place: Path) -> None:
    with pytest.raises(EvaluationError, match=r"reads int16 audio of 1x256 at 4000 per second, but 'image' is uint8"):
        Evaluator(
            ScoreConfig(samples=64, extractor=f"file:{place / 'probe.safetensors'}"),
            ShardDataset(_images(place)),
            ALONE,
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "plain", "batch": 1}, "plain: has no classes, so that samples are compared: use a batch of 2 or"),
        ({"dataset": "train", "field": "image"}, "has no field 'image' that a probe can read: choose one of audio"),
        ({"dataset": "train", "held_out": "others"}, "others: has other classes than"),
    ],
)
def test_sets_that_no_probe_learns_are_one_line(place: Path, settings: dict[str, object], words: str) -> None:
    found = {key: place / str(value) if key in ("dataset", "held_out") else value for key, value in settings.items()}
    with pytest.raises(EvaluationError, match=words):
        train_probe(ProbeSettings.model_validate(found), CPU)


def test_files_that_are_no_probe_are_one_line(place: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no tensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    facts = {"field": "audio"}
    save_file({"weight": torch.zeros(2)}, tmp_path / "old.safetensors", metadata={"bigtrain-probe": json.dumps(facts)})
    for name, words in {
        "text": "text.safetensors: not a probe file",
        "other": "contains tensors, but no probe; bigtrain probe train",
        "old": "not a probe of this version of bigtrain",
    }.items():
        with pytest.raises(EvaluationError, match=words):
            build_extractor(f"file:{tmp_path / name}.safetensors", "fp32", CPU)


def test_the_command_trains_and_scores_sets(
    place: Path, tmp_path: Path, bigtrain: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "own.safetensors"
    code, told, _ = bigtrain("probe", "train", str(place / "train"), "--out", str(out), "--epochs", "2", "--lr", "0.01")
    assert code == 0
    assert "distinguishes 2 classes of 'audio'; accuracy" in told
    sets = [str(place / name) for name in ("test", "train")]
    code, told, error = bigtrain("fid", *sets, "--extractor", f"file:{out}", "--metric", "fid", "--json")
    assert code == 0, error
    (score,) = json.loads(told.splitlines()[-1])["scores"].values()
    assert score["protocol"]["extractor"] == "probe:own.safetensors"
    code, _, error = bigtrain("probe", "train", str(place / "train"), "--out", str(tmp_path / "probe.pt"))
    assert code == 2
    assert "the file of a probe ends in .safetensors" in error
