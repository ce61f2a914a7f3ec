"""Read the scores of a run as they are reported."""

import json
import math
from pathlib import Path
from typing import Any


class ScoreReader:
    """Follows `metrics.jsonl` of a run folder.

    Args:
        folder: run folder, which need not exist yet.
        metric: name of the metric, such as `fid`.
        samples: number of generated images of a score; it tells the frequent evaluation from the full one.

    Attributes:
        samples_seen: images that the run has been trained on, as far as has been read.
    """

    def __init__(self, folder: Path, metric: str, samples: int) -> None:
        self._path, self._metric, self._samples = folder / "metrics.jsonl", metric, samples
        self._offset = 0
        self._speeds: list[float] = []
        self.samples_seen = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the scores that were reported since the last call, oldest first."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        scores = []
        for line in whole.splitlines():
            record = json.loads(line)
            self.samples_seen = max(self.samples_seen, record["samples_seen"])
            if record["kind"] == "metrics" and "time/img_per_s" in record["metrics"]:
                self._speeds.append(record["metrics"]["time/img_per_s"])
            if record["kind"] == "score" and self._is_ours(record["score"]["protocol"]):
                scores.append(self._scored(record))
        return scores

    def _is_ours(self, protocol: dict[str, Any]) -> bool:
        return bool(protocol["metric"].split(" ")[0] == self._metric and protocol["samples"] == self._samples)

    def _scored(self, record: dict[str, Any]) -> dict[str, Any]:
        score, speeds = record["score"], sorted(self._speeds)
        error = score["noise"]["error"] if score["noise"] else 0.0
        return {
            "samples_seen": record["samples_seen"],
            "value": score["value"],
            "error": error if math.isfinite(error) else 0.0,
            "img_per_s": speeds[len(speeds) // 2] if speeds else 0.0,
            "higher_is_better": score["higher_is_better"],
        }
