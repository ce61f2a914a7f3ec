"""Tars that lie elsewhere: fetched beside the set that is made of them, then read as tars of this machine are."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.files import atomic_write
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.tars import from_webdataset
from data_pipelines.remote import RetryPolicy, chunks_of, is_remote, with_retries
from data_pipelines.secrets import refuse_secrets
from data_pipelines.source import Source
from data_pipelines.tar_urls import check_url, find_tars

_AT_ONCE = 4
"""Tars that are fetched together."""

OnFetched = Callable[[int, int], object]
"""Called with the number of tars that are there, and of all."""


def from_urls(text: str, place: Place, on_fetched: OnFetched | None = None, retry: RetryPolicy | None = None) -> Source:
    """Return the samples of tars at URLs, see `from_webdataset`.

    Args:
        text: `http(s)://`, `s3://` or the like, with braces for several tars; or the URL of a `.txt` that lists them.
        place: what the user says about them; the tars are kept in a folder of its `scratch`, each fetched once.
        on_fetched: told of progress.
        retry: how often a server is asked again.

    Raises:
        DataError: a tar cannot be fetched, or they are not understood.
    """
    retry, faults = retry or RetryPolicy(), FaultLog()
    try:
        check_url(refuse_secrets(text, "use ~/.netrc for http(s)://, $AWS_ACCESS_KEY_ID and its like for s3://"))
    except ValueError as error:
        raise DataError(str(error)) from None
    urls = find_tars((text,), retry, faults)
    if local := [url for url in urls if not is_remote(url)]:
        raise DataError(f"{text}: names the local file {local[0]}; prepare a folder of tars by its path")
    folder = (place.scratch or Path(tempfile.gettempdir())) / f"tars-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    files = [folder / name for name in _names(urls)]
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        fetched = [threads.submit(_fetch, url, file, retry, faults) for url, file in zip(urls, files, strict=True)]
        try:
            for count, one in enumerate(as_completed(fetched), 1):
                one.result()
                if on_fetched is not None:
                    on_fetched(count, len(urls))
        finally:
            for one in fetched:
                one.cancel()
    source = from_webdataset(replace(place, path=folder))
    note = f"the downloaded tars are in {folder}; a dataset that was prepared with --codec source needs them"
    return replace(source, name=_stem(urls[0]), origin=text, notes=(*source.notes, note))


def _names(urls: Sequence[str]) -> list[str]:
    """Return the names that tars get on this machine: their own, with a number where several have one name."""
    names = [unquote(PurePosixPath(urlsplit(url).path).name) or "tar" for url in urls]
    if len(set(names)) == len(names):
        return names
    return [f"{number:06d}-{name}" for number, name in enumerate(names)]


def _stem(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name.partition(".")[0] or "tars"


def _fetch(url: str, file: Path, retry: RetryPolicy, faults: FaultLog) -> None:
    """Fetch a tar unless it is there; what breaks off is asked for again from there on."""
    if file.is_file():
        return
    with atomic_write(file) as out:

        def rest() -> None:
            for chunk in chunks_of(url, retry, out.tell()):
                out.write(chunk)

        with_retries(rest, url, retry, faults)
