"""Fetch files from `http(s)://`, `s3://`, other stores of fsspec, and `pipe:COMMAND`, again where that may help."""

import os
import random
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from data_pipelines.errors import DataError, UnreachableError
from data_pipelines.faults import FaultLog

_CHUNK = 1 << 20
_S3_BLOCK = 128 << 20
"""Bytes of a GET: a shard of 100 MB is one, and one request more for its size."""
_FINAL_STATUS = frozenset({400, 404, 405, 410})
"""HTTP answers that asking again does not change."""

_PLUGINS = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "hf": "huggingface_hub"}
"""Schemes of other stores -> the package by which fsspec reads them."""

_REFUSALS = frozenset({401, 403})

_jitter = random.Random()  # noqa: S311 - pauses are no secret, and draw nothing from anybody's generator

Result = TypeVar("Result")


class FetchError(DataError):
    """A file could not be fetched; asking again may help."""


class WrongContentError(FetchError):
    """A file came that is not what it should be: damaged on the way, which may pass, or where it lies."""


class NotAllowedError(UnreachableError):
    """A server refuses to hand a file out; who has the right credentials may get it."""


class FinalFetchError(DataError):
    """A file cannot be fetched; asking again would not help."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often a fetch is tried again, and how long a server may stay silent.

    Attributes:
        attempts: times that wrong content may come before it counts as damaged where it lies.
        patience_s: how long a server is asked again that does not answer, or answers that it is too busy. It ends
            before the watchdog takes a rank that waits for data for one that hangs.
        first_wait_s: longest pause after the first failure; every further one is twice as long.
        longest_wait_s: but not longer than this. Pauses are random, from half of this length on, so that a thousand
            ranks do not ask again in the same moment.
        stall_s: how long a server may send nothing.
    """

    attempts: int = 6
    patience_s: float = 240.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    stall_s: float = 20.0


def is_remote(place: str) -> bool:
    """Tell whether `place` is a URL rather than a path."""
    return place.startswith(("http://", "https://", "s3://", "pipe:", *(f"{scheme}://" for scheme in _PLUGINS)))


def with_retries(fetch: Callable[[], Result], url: str, retry: RetryPolicy, faults: FaultLog) -> Result:
    """Call `fetch` until it does not raise FetchError, as long as `retry` says.

    Raises:
        UnreachableError: nothing came; the last error.
        DataError: what came was wrong every time.
    """
    began, tries, wrong = time.monotonic(), 0, 0
    while True:
        tries += 1
        try:
            return fetch()
        except FetchError as error:
            damaged = isinstance(error, WrongContentError)
            wrong += damaged
            if damaged and wrong >= retry.attempts:
                raise DataError(f"{error} (tried {tries} times)") from None
            spent = time.monotonic() - began
            if not damaged and spent >= retry.patience_s:
                raise UnreachableError(f"{error} (tried {tries} times in {spent:.3g} s)") from None
            longest = min(retry.first_wait_s * 2 ** min(tries - 1, 16), retry.longest_wait_s)
            wait = _jitter.uniform(longest / 2, longest)
            faults.retry(url, str(error), wait)
            if faults.wait(wait):
                raise UnreachableError(f"{error} (its stream was closed)") from None


def chunks_of(url: str, retry: RetryPolicy, start: int = 0) -> Iterator[bytes]:
    """Iterate over the content of a URL behind its first `start` bytes, which must be 0 for `pipe:`.

    Raises:
        FetchError: it broke off or stalled.
        FinalFetchError: there is no such file, or no way to get it.
    """
    if url.startswith("pipe:"):
        return _pipe(url, retry.stall_s)
    if url.startswith("s3://"):
        return _s3(url, retry.stall_s, start)
    return _http(url, retry.stall_s, start) if url.startswith("http") else _by_fsspec(url, start)


def _http(url: str, stall_s: float, start: int) -> Iterator[bytes]:
    import requests  # a tenth of a second of every rank that reads from a disk

    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with requests.get(url, stream=True, timeout=stall_s, headers=headers) as response:
            if start and response.status_code == 416:  # there is nothing behind it
                return
            if response.status_code not in (200, 206):
                raise _answer(response.status_code)(
                    f"{url}: the server answers {response.status_code} {response.reason}"
                )
            before = start if response.status_code == 200 else 0  # a server that knows no ranges sends all of it
            for chunk in response.iter_content(_CHUNK):
                if before < len(chunk):
                    yield chunk[before:]
                before = max(before - len(chunk), 0)
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise FinalFetchError(f"{url}: {error}") from None
    except requests.exceptions.Timeout:
        raise FetchError(f"{url}: the server sent nothing for {stall_s:g} s") from None
    except requests.exceptions.RequestException as error:
        stalled = "Read timed out" in str(error)  # urllib3 wraps a stall inside a body in a connection error
        problem = f"the server sent nothing for {stall_s:g} s" if stalled else f"broken off ({error})"
        raise FetchError(f"{url}: {problem}") from None


def _answer(status: int) -> type[DataError]:
    """Return what an HTTP answer that is no success means."""
    if status in _REFUSALS:
        return NotAllowedError
    return FinalFetchError if status in _FINAL_STATUS else FetchError


def _s3(url: str, stall_s: float, start: int) -> Iterator[bytes]:
    try:
        import s3fs
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    except ImportError:
        raise FinalFetchError(f"{url}: reading s3:// needs the package s3fs (pip install 'bigtrain[s3]')") from None
    config = {"connect_timeout": stall_s, "read_timeout": stall_s, "retries": {"max_attempts": 0}}
    files: Any = s3fs.S3FileSystem(config_kwargs=config, use_listings_cache=False)
    try:
        with files.open(url, "rb", block_size=_S3_BLOCK, cache_type="readahead") as file:
            file.seek(start)
            while chunk := file.read(_CHUNK):
                yield chunk
    except FileNotFoundError:
        raise FinalFetchError(f"{url}: no such object") from None
    except (PermissionError, NoCredentialsError) as error:
        raise NotAllowedError(f"{url}: not allowed ({error})") from None
    except (OSError, BotoCoreError, ClientError, TimeoutError) as error:
        raise FetchError(f"{url}: broken off ({error})") from None


def _by_fsspec(url: str, start: int) -> Iterator[bytes]:
    """Read by a plugin of fsspec, which finds its credentials, and waits, as it usually does."""
    import fsspec

    package = _PLUGINS[url.partition("://")[0]]
    try:
        files, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
        with files.open(path, "rb", block_size=_S3_BLOCK, cache_type="readahead") as file:
            file.seek(start)
            while chunk := file.read(_CHUNK):
                yield chunk
    except ImportError:
        raise FinalFetchError(f"{url}: reading it needs the package {package} (pip install {package})") from None
    except FileNotFoundError:
        raise FinalFetchError(f"{url}: no such object") from None
    except PermissionError as error:
        raise NotAllowedError(f"{url}: not allowed ({error})") from None
    except DataError:
        raise
    except Exception as error:  # each plugin has errors of its own
        raise FetchError(f"{url}: broken off ({error or type(error).__name__})") from None


def _pipe(url: str, stall_s: float) -> Iterator[bytes]:
    command = ["/bin/sh", "-c", url.removeprefix("pipe:")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            while select.select([process.stdout], [], [], stall_s)[0]:
                chunk = os.read(process.stdout.fileno(), _CHUNK)
                if not chunk:
                    break
                yield chunk
            else:
                raise FetchError(f"{url}: stalled, no data for {stall_s:g} s")
        finally:
            if process.poll() is None and not _ends_soon(process):
                os.killpg(process.pid, 9)
    if process.returncode:
        raise FetchError(f"{url}: the command ended with exit code {process.returncode}")


def _ends_soon(process: subprocess.Popen[bytes]) -> bool:
    """Wait a moment for a command that has said all that it had to say."""
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return False
    return True
