"""Run folders as runs leave them, made in no time: for tests of what reads them."""

from pathlib import Path

import numpy as np
import torch

from bigtrain.core.state import Progress
from bigtrain.generate.recordings import recorded
from bigtrain.tracking.tracker import Tracker, TrackingConfig
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import write_json

CONFIG = """
run_dir: {folder}
seed: 0
total_kimg: 2.0
optim: {{G: {{lr: {lr}}}, D: {{lr: 0.001}}}}
data: {{path: data/tiny}}
"""
RECORDED = (
    ("samples/heard", (1, 6000), FieldSpec("audio", (1, 6000), "int16", rate=8000, codec="wav")),
    ("samples/moving", (4, 3, 16, 16), FieldSpec("video", (4, 3, 16, 16), "uint8", rate=8, codec="npy")),
)


def leave_run(
    folder: Path,
    *,
    lr: float = 0.001,
    fids: tuple[float, ...] = (80.0, 40.0),
    finished: bool = True,
    recordings: bool = False,
) -> Path:
    """Make a run folder of a run that rolled back once, with a score and a picture each 1,000 images.

    With `recordings`, it ends with a sound of two seconds and a film.
    """
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder, lr=lr))
    write_json(folder / "environment.json", {"host": "node7", "cpus": 2, "packages": {"torch": "2"}, "command": "x"})
    symptom = {"symptom": "mode collapse", "state": "warning", "evidence": "few <b>colours</b>", "first_seen_kimg": 1}
    write_json(folder / "health.json", {"kimg": 2, "rollbacks": 1, "symptoms": [symptom]})
    tracker = Tracker(TrackingConfig(mlflow=False), folder, active=True)
    progress = Progress(total=2000, batch=500)
    dataset = {"name": "tiny", "digest": "abc", "folder": "data/tiny", "shape": [3, 8, 8], "profile": {}}
    tracker.start(progress, params={"optim.G.lr": lr}, tags={"world_size": "4", "host": "node7"}, dataset=dataset)
    random = np.random.default_rng(0)
    for fid in fids:
        for _ in range(2):
            progress.advance()
            tracker.log({"loss/d_main": 1.4, "reg/r1": 0.1, "health/mode_collapse": 1.0, "health/nan": 0.0}, progress)
            tracker.log({"time/img_per_s": 100.0, "lr/G": lr}, progress)
        tracker.log({"eval/fid50k": fid, "eval/fid50k_low": fid - 5, "eval/fid50k_high": fid + 5}, progress)
        tracker.log_image("samples/fakes", random.integers(0, 255, (64, 64, 3), dtype=np.uint8), progress)
    for key, samples, spec in RECORDED if recordings else ():
        recording = recorded(torch.zeros(2, *samples), spec)
        assert recording is not None
        tracker.log_recording(key, recording.suffix, recording.content, progress)
    tracker.log_event("health.mode_collapse", "critical: few <b>colours</b> </script>", progress)
    if finished:
        tracker.finish("FINISHED", progress)
    return folder
