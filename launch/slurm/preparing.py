"""Hand `bigtrain data prepare` to Slurm: an array with a task for each part, and a job after it that finishes."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.slurm import client
from launch.slurm.script import container_words, options_of, render_template
from launch.slurm.settings import SlurmConfig

_TEMPLATE = "prepare.sbatch.j2"
_SAVE_SECONDS = 60
"""How long before its time limit a task is asked to stop: it ends after the samples at hand, and is requeued."""


@dataclass(frozen=True)
class PreparationRequest:
    """A set that Slurm's nodes make.

    Attributes:
        words: arguments and options of `bigtrain data prepare`.
        dest: the set's folder, which does not exist yet.
        here: where relative paths begin.
        parts: tasks of the array.
    """

    words: tuple[str, ...]
    dest: Path
    here: Path
    parts: int

    @property
    def folder(self) -> Path:
        """Of the scripts and of what the tasks print, beside the set."""
        return self.dest.with_name(f"{self.dest.name}.slurm")


def render(settings: SlurmConfig, request: PreparationRequest, *, after: str | None = None) -> tuple[str, str]:
    """Return the batch scripts of the parts and of the job that finishes.

    Args:
        settings: what each of them asks for.
        request: what they make.
        after: the dependency of the one that finishes; None while the parts have no number yet.

    Raises:
        ConfigError: a value that cannot stand in a batch script.
    """
    alone = settings.model_copy(update={"nodes": 1, "ranks_per_node": 1, "launch": "torchrun", "gpus_per_node": 0})
    parts = alone.model_copy(update={"array": f"0-{request.parts - 1}"})
    finish = alone.model_copy(update={"array": None, "dependency": after})
    return _script(parts, request, request.parts), _script(finish, request, None)


def submit(settings: SlurmConfig, request: PreparationRequest) -> tuple[str, str]:
    """Queue both; return their numbers.

    Raises:
        SlurmError: Slurm refuses, or could never run them; then nothing is queued.
    """
    for text in (scripts := render(settings, request)):
        client.check_request(text)
    request.folder.mkdir(parents=True, exist_ok=True)
    first = client.submit(_write(request.folder / "parts.sbatch", scripts[0]))
    _, finish = render(settings, request, after=f"afterok:{first}")
    return first, client.submit(_write(request.folder / "finish.sbatch", finish))


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _script(settings: SlurmConfig, request: PreparationRequest, parts: int | None) -> str:
    folder = str(request.folder).replace("%", "%%")
    options = options_of(settings)
    if parts is None and settings.dependency:
        options.append(("kill-on-invalid-dep", "yes"))  # a part has failed: there is nothing to finish
    return render_template(
        _TEMPLATE,
        settings,
        name=f"{request.dest.name}-{'parts' if parts else 'finish'}",
        here=str(request.here),
        options=options,
        output=f"{folder}/part-%a.out" if parts else f"{folder}/finish.out",
        container_words=container_words(settings, {request.here, request.dest.parent}, request.here),
        task_words=_task(settings, request.words),
        parts=parts,
        save_seconds=_SAVE_SECONDS,
    )


def _task(settings: SlurmConfig, words: Sequence[str]) -> list[str]:
    own = settings.python or ("python" if settings.venv or settings.conda or settings.container else sys.executable)
    workers = [] if any(word.startswith("--workers") for word in words) else [f"--workers={settings.cores}"]
    return [own, "-m", "bigtrain", "data", "prepare", *words, *workers]
