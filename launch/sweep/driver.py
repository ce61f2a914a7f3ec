"""Run trials with Ray Tune, on a Ray that is started here or on an existing cluster."""

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from bigtrain.core.errors import UserError
from launch.sweep.interface import TrialScheduler
from launch.sweep.ranks import is_free

_OBJECT_STORE = 100 * 2**20
"""Size of Ray's object store in bytes, which is hardly used: trials write to their run folders."""
_LEAVE_SECONDS = 180.0
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Unless this variable is 0, Ray replaces 127.0.0.1 by the machine's address, and listens on all interfaces."""
_PREFIX = "bt-ray-"
_LONGEST = 107 - len("/session_2026-11-29_20-44-02_123456_1234567/sockets/plasma_store.12") - len(f"/{_PREFIX}12345678")
"""Bytes of the name of the folder that Ray's own folder lies in: a socket's path has 107."""


class ResourcesError(Exception):
    """A trial needs more resources than any node of the cluster has."""


@dataclass(frozen=True)
class Resources:
    """Resources of one trial.

    Attributes:
        cpus: CPU cores; None for all cores of a node.
        gpus: GPUs.
        memory: memory in bytes; None to reserve none.
        at_once: maximum number of trials that run at the same time; None for as many as fit.
        retries: how often a trial that fails is retried.
        remote: whether trials run as Slurm jobs, and need no resources of the Ray cluster.
    """

    cpus: float | None
    gpus: float = 0.0
    memory: float | None = None
    at_once: int | None = None
    retries: int = 2
    remote: bool = False


def run_trials(
    scheduler: TrialScheduler, folder: Path, resources: Resources, *, hours: float | None = None
) -> str | None:
    """Run trials until the scheduler proposes no more, a stop is requested by a signal, or the time limit is reached.

    Args:
        scheduler: proposes trials and decides which go on.
        folder: folder of the sweep; Ray keeps its own state in it during this call.
        resources: resources of one trial.
        hours: time limit; None for no limit.

    Returns:
        What stopped the sweep: the name of a signal, or `time`; None if all trials have ended.

    Raises:
        ResourcesError: a trial needs more resources than any node has.
    """
    requests: list[str] = []
    began = time.monotonic()
    with _signals(requests), connected_ray(resources) as (cpus, bundle):
        _tune(scheduler, folder, resources, cpus, bundle, requests, hours)
    deadline = time.monotonic() + _LEAVE_SECONDS
    while not all(is_free(run) for run in folder.glob("trial-*/")) and time.monotonic() < deadline:
        time.sleep(0.2)
    if requests:
        return requests[0]
    return "time" if hours is not None and time.monotonic() > began + 3600 * hours else None


def _tune(
    scheduler: TrialScheduler,
    folder: Path,
    resources: Resources,
    cpus: float,
    bundle: dict[str, float],
    requests: list[str],
    hours: float | None,
) -> None:
    from ray import tune

    from launch.sweep.adapters import StopOnRequest, TuneScheduler, TuneSearcher
    from launch.sweep.trial import RunTrial

    state = folder / "ray"
    shutil.rmtree(state, ignore_errors=True)
    trainable = tune.with_resources(RunTrial, tune.PlacementGroupFactory([bundle]))
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=TuneSearcher(scheduler, cpus),
            scheduler=TuneScheduler(scheduler),
            num_samples=-1,
            max_concurrent_trials=resources.at_once,
            reuse_actors=False,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(state.resolve()),
            failure_config=tune.FailureConfig(max_failures=resources.retries),
            stop=StopOnRequest(lambda: bool(requests), hours),
            verbose=0,
        ),
    )
    tuner.fit()
    shutil.rmtree(state, ignore_errors=True)  # the state of the sweep is in its event log


def set_ray_environment() -> None:
    """Set the variables that Ray reads when it is imported, which the check of a sweep does."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if "RAY_ADDRESS" in os.environ:
        return
    # Ray would kill trials when the machine's memory is full; the failure of a rank is more informative.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: beside anything else, trials would stand still
    os.environ[_LOOPBACK] = "0"
    os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextmanager
def _signals(requests: list[str]) -> Iterator[None]:
    """Append the names of SIGINT, SIGTERM and SIGUSR1 to a list as they arrive, instead of ending the process."""

    def note(number: int, frame: FrameType | None) -> None:
        requests.append(signal.Signals(number).name)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def connected_ray(resources: Resources) -> Iterator[tuple[float, dict[str, float]]]:
    """Start Ray, or connect to $RAY_ADDRESS; yield a trial's cores and its bundle; shut down what was started."""
    joined = "RAY_ADDRESS" in os.environ
    if not joined and "ray" in sys.modules and os.environ.get(_LOOPBACK) != "0":
        raise RuntimeError("Ray was imported before set_ray_environment was called: it would listen on all interfaces")
    set_ray_environment()
    place = None if joined else short_folder()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True) as temporary:
        if not joined:
            token = Path(temporary) / "token"
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(32))
            os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(token))
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)
        if joined:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            cores = max(resources.at_once or 1, 1) if resources.remote else len(os.sched_getaffinity(0))
            ray.init(
                num_cpus=cores,
                object_store_memory=_OBJECT_STORE,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=temporary,
                _node_ip_address="127.0.0.1",
            )
        logging.getLogger("ray").setLevel(logging.ERROR)
        mine = [] if joined else psutil.Process().children(recursive=True)
        try:
            yield _bundle(resources)
        finally:
            ray.shutdown()
            _wait_gone(mine)


def short_folder() -> str:
    """Return a folder whose name is short enough for Ray's sockets: $TMPDIR, or else one of the machine's own.

    A socket's path has at most 107 bytes, most of which Ray takes for itself; a batch system's folder
    of a job often has more than the rest. Ray's own folder in it is made for this user alone.

    Raises:
        UserError: all folders that can be written to have longer names.
    """
    asked = tempfile.gettempdir()
    for folder in (asked, "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - see above
        if len(os.fsencode(folder)) <= _LONGEST and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UserError(
        f"TMPDIR={asked}: has {len(os.fsencode(asked))} characters, but Ray's sockets allow only {_LONGEST}; set "
        "TMPDIR to a folder with a shorter name"
    )


def _bundle(resources: Resources) -> tuple[float, dict[str, float]]:
    """Return a trial's CPU cores, and its bundle of resources for a placement group."""
    import ray

    if resources.remote:
        return 1.0, {"CPU": 1.0}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = resources.cpus or max(node.get("CPU", 0.0) for node in nodes)
    wanted = {"CPU": cpus, "GPU": resources.gpus, "memory": resources.memory or 0.0}
    bundle = {name: amount for name, amount in wanted.items() if amount}
    if not any(all(node.get(name, 0.0) >= amount for name, amount in bundle.items()) for node in nodes):
        has = max(nodes, key=lambda node: node.get("CPU", 0.0))
        lacking = ", ".join(f"{name} {amount:g} (at most {has.get(name, 0.0):g})" for name, amount in bundle.items())
        raise ResourcesError(f"trial: no node of the cluster has enough resources: {lacking}")
    return cpus, bundle


def _wait_gone(processes: list[psutil.Process]) -> None:
    """Wait for the processes that Ray started, and kill those that do not end."""
    _, alive = psutil.wait_procs(processes, timeout=_LEAVE_SECONDS / 6)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=10)
