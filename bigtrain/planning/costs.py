"""What the phases of a running training compute and hold, counted beside it.

Nothing that observes a step may change its bits (decision 43). So the operators of a real step are not watched: a phase
is counted once on tensors without content, as a plan is, on rank 0 alone, for all ranks compute the same. Counts are
kept in the cache, because a requeued run would otherwise count the same phases again at each start.
"""

import hashlib
import json
from pathlib import Path

import torch
from pydantic import BaseModel

from bigtrain.config import TrainingConfig
from bigtrain.core.cache import cache_folder
from bigtrain.core.config import ConfigError
from bigtrain.core.logging import log
from bigtrain.core.state import Progress
from bigtrain.engine.player import Phase
from bigtrain.planning.counting import FakeRun, kind_of
from bigtrain.run.usage import Cost
from data_pipelines.files import write_json

_UNKNOWN = Cost(0, 0)
_WITHOUT_INFLUENCE = {
    *("run_dir", "seed", "total_kimg", "global_batch", "memory_gib", "data", "strategy", "optim", "ema", "log"),
    *("preview", "eval", "checkpoint", "snapshot", "health", "watchdog", "tracking", "init_from", "profile"),
}
"""Keys of a run's config that change nothing of what a micro-batch computes."""


class PhaseCosts:
    """Counts each kind of phase of a run at its first occurrence: its name, the terms that are due, the growth.

    Args:
        config: of the run, with a number for `micro_batch`.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._run: FakeRun | None = None
        self._known: dict[tuple[object, ...], Cost] = {}
        self._file = _file_of(config)
        self._kept = _read(self._file)
        self._gave_up = False

    def __call__(self, phase: Phase, progress: Progress) -> Cost:
        """Return what one micro-batch costs; zeros if the networks do not run on tensors without content."""
        kept = self._kept.get(_name_of(phase))
        if kept is not None:
            return kept
        if self._gave_up:
            return _UNKNOWN
        try:
            return self._count(phase, progress)
        except (ConfigError, RuntimeError, TypeError) as error:
            self._gave_up = True
            log.warning("compute/ and memory/activations_mib are not counted: %s", str(error).partition("\n")[0])
            return _UNKNOWN

    def _count(self, phase: Phase, progress: Progress) -> Cost:
        self._run = self._run or FakeRun(self._config)
        growth = self._run.grow_to(progress)
        kind = (*kind_of(phase), *growth)
        if kind not in self._known:
            work = self._run.work(phase, self._config.micro_batch_size)
            self._known[kind] = Cost(int(work.flops.sum()), int(work.activations))
            if self._file is not None and not growth:  # of networks that grow, a phase has more than one cost
                self._kept[_name_of(phase)] = self._known[kind]
                _write(self._file, self._kept)
        return self._known[kind]


def _name_of(phase: Phase) -> str:
    return " ".join(kind_of(phase))


def _file_of(config: TrainingConfig) -> Path | None:
    """Return the file of a run's counts, named by all that they depend on; None where that is not known.

    It is not known of other packages' networks and terms, whose code may change.
    """
    if any(not module.startswith("bigtrain.") for module in _modules_of(config)):
        return None
    root = Path(__file__).parent.parent
    code = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(root.rglob("*.py"))]
    computed = config.model_dump(mode="json", exclude=_WITHOUT_INFLUENCE)
    fields = {name: str(spec) for name, spec in config.data.field_specs().items()}
    text = json.dumps([torch.__version__, code, computed, fields], sort_keys=True)
    return cache_folder() / "costs" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _modules_of(config: BaseModel) -> set[str]:
    """Return the modules of the classes of a config and of all configs in it."""
    found, waiting = set(), [config]
    while waiting:
        one = waiting.pop()
        found.add(type(one).__module__)
        for value in vars(one).values():
            waiting += [part for part in (value, *_parts_of(value)) if isinstance(part, BaseModel)]
    return found


def _parts_of(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _read(file: Path | None) -> dict[str, Cost]:
    try:
        document = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        return {name: Cost(int(flops), int(activations)) for name, (flops, activations) in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # not there, or damaged: it is counted again


def _write(file: Path, kept: dict[str, Cost]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, kept)
    except OSError as error:
        log.warning("%s: not cached (%s)", file, error)
