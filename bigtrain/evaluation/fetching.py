"""Get published weights ahead of a run, for machines whose compute nodes have no internet."""

from collections.abc import Callable
from pathlib import Path

from bigtrain.models.pretrained.weights import PublishedWeights, WeightsError
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.files import sha256_of
from data_pipelines.remote import RetryPolicy, chunks_of, with_retries

_RETRY = RetryPolicy(patience_s=30.0)
Report = Callable[[int], None]
"""Called with the number of bytes received so far."""


def fetch_weights(
    weights: PublishedWeights,
    folder: Path,
    *,
    urls: tuple[str, ...] = (),
    retry: RetryPolicy = _RETRY,
    report: Report = lambda size: None,
) -> Path:
    """Download weights into `folder` unless they are there; what broke off, goes on where it ended.

    Args:
        weights: which.
        folder: made if missing.
        urls: to try instead of the published ones, in order.
        retry: with each server.
        report: called with the number of bytes so far.

    Returns:
        The file, whose checksum is right.

    Raises:
        WeightsError: no URL has it; or what it has is something else, which is removed.
    """
    path = folder / weights.names[0]
    if path.is_file() and sha256_of(path) == weights.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial, problems = path.with_name(f"{path.name}.partial"), []
    for url in urls or weights.urls:
        try:
            _fetch(url, partial, retry, report)
        except DataError as error:
            problems.append(str(error))
            continue
        found = sha256_of(partial)
        if found == weights.sha256:
            partial.replace(path)
            return path
        partial.unlink()
        problems.append(f"{url}: its content has sha256 {found}, expected {weights.sha256}")
    raise WeightsError(f"{'; '.join(problems)}; or put the file at {path} by hand")


def _fetch(url: str, partial: Path, retry: RetryPolicy, report: Report) -> None:
    """Append to `partial` what it lacks of `url`; tried again where that may help."""

    def go_on() -> None:
        with partial.open("ab") as file:
            for chunk in chunks_of(url, retry, file.tell()):
                file.write(chunk)
                report(file.tell())

    with_retries(go_on, url, retry, FaultLog())
