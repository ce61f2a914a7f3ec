"""What `Tuner.restore` of Ray Tune knows after its driver was killed: trials and steps that are lost or repeated.

    python benchmarks/sweep_restore.py              # some two minutes, two cores; ten on a busy machine
    python benchmarks/sweep_restore.py --keep-all   # keep all checkpoints of a trial, as Ray does by default

A trial of this program writes a line to a file of its own for each step, which lasts a fifth of a second, and saves a
checkpoint after each step, of which the newest is kept. The driver is killed by SIGKILL in the middle; then the sweep
is restored and runs on.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TRIALS, STEPS, STEP_SECONDS, KILL_SECONDS = 16, 9, 0.2, 20.0


def drive(folder: Path, *, restore: bool, keep: int | None) -> None:
    """Run or restore the sweep, and write what Ray knows of its trials."""
    import ray
    from ray import tune

    class Steps(tune.Trainable):  # type: ignore[misc]
        """Counts steps."""

        def setup(self, config: dict[str, Any]) -> None:
            """See Trainable."""
            self._count, self._file = 0, folder / f"{self.trial_id}.jsonl"

        def step(self) -> dict[str, Any]:
            """See Trainable."""
            time.sleep(STEP_SECONDS)
            self._count += 1
            with self._file.open("a") as file:
                file.write(json.dumps([self.config["x"], self._count]) + "\n")
            return {"score": self.config["x"] / self._count, "done": self._count == STEPS}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """See Trainable."""
            (Path(checkpoint_dir) / "count").write_text(str(self._count))

        def load_checkpoint(self, checkpoint: Any) -> None:
            """See Trainable."""
            self._count = int((Path(checkpoint) / "count").read_text())

    ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    state = folder / "ray"
    if restore:
        tuner = tune.Tuner.restore(str(state / "s"), trainable=Steps, resume_unfinished=True, resume_errored=True)
    else:
        tuner = tune.Tuner(
            Steps,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(
                metric="score",
                mode="min",
                num_samples=TRIALS,
                search_alg=tune.search.create_searcher("optuna", seed=0),
                scheduler=tune.schedulers.ASHAScheduler(max_t=STEPS, grace_period=1, reduction_factor=3),
                max_concurrent_trials=2,
            ),
            run_config=tune.RunConfig(
                name="s",
                storage_path=str(state),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=keep),
            ),
        )
    found = tuner.fit()
    (folder / "known.json").write_text(json.dumps([one.metrics["trial_id"] for one in found if one.metrics]))


def main() -> None:
    """Kill a sweep, restore it, and print what was lost."""
    keep = "all" if "--keep-all" in sys.argv else "newest"
    if len(sys.argv) > 2:
        drive(Path(sys.argv[2]), restore=sys.argv[1] == "restore", keep=1 if sys.argv[3] == "newest" else None)
        return
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    environment = {**os.environ, **quiet, "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = subprocess.Popen([sys.executable, __file__, "run", name, keep], env=environment)
        while not list(folder.glob("*.jsonl")):
            time.sleep(0.1)
        time.sleep(KILL_SECONDS)
        first.send_signal(signal.SIGKILL)
        first.wait()
        time.sleep(5.0)  # Ray's processes follow
        before = {path.stem: len(path.read_text().splitlines()) for path in folder.glob("*.jsonl")}
        subprocess.run([sys.executable, __file__, "restore", name, keep], env=environment, check=True)
        known = set(json.loads((folder / "known.json").read_text()))
        lines = {
            path.stem: [json.loads(one) for one in path.read_text().splitlines()] for path in folder.glob("*.jsonl")
        }
    repeated = sum(len(steps) - len({step for _, step in steps}) for steps in lines.values())
    lost = before.keys() - known
    print(f"before the kill: {len(before)} trials, {sum(before.values())} steps")
    print(f"unknown to Ray afterwards: {len(lost)} trials, {sum(before[one] for one in lost)} steps")
    print(f"steps that were done twice: {repeated}; trials in the end: {len(lines)} of {TRIALS} asked for")


if __name__ == "__main__":
    main()
