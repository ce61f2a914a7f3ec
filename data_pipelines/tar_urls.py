"""The tars that a user means: braces, folders, and files that list others."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog
from data_pipelines.remote import RetryPolicy, chunks_of, is_remote, with_retries
from data_pipelines.secrets import refuse_secrets

_LIST = ".txt"
_LARGEST_LIST = 2**28
"""Bytes; a million URLs have 100 MB."""
_MOST = 10_000_000
"""Tars that braces may stand for."""


def check_url(url: str) -> str:
    """Return a URL that may be read.

    Raises:
        ValueError: it would run a command: configs and lists of shards travel between people as datasets do.
    """
    if url.lstrip().startswith("pipe:"):
        raise ValueError(
            f"{url!r} would run a command, which neither a config nor a list of tars may ask for; name the tars by "
            "http(s)://, s3:// or their path, or index them once with bigtrain data prepare"
        )
    return url


def find_tars(urls: Sequence[str], retry: RetryPolicy, faults: FaultLog) -> tuple[str, ...]:
    """Return the URL or path of every tar, in the order in which they are named.

    Args:
        urls: as a user writes them.
        retry: with a server that has a list.
        faults: where retries are counted.

    Raises:
        DataError: a list or a folder cannot be read, names a command, or there are no tars.
    """
    found = tuple(islice(_all(urls, retry, faults), _MOST + 1))
    if not found:
        raise DataError(f"{', '.join(urls)}: no .tar found")
    if len(found) > _MOST:
        raise DataError(f"{', '.join(urls)}: stands for more than {_MOST:,} tars")
    return found


def _all(urls: Sequence[str], retry: RetryPolicy, faults: FaultLog) -> Iterator[str]:
    for pattern in urls:
        for url in _expanded(pattern):
            if url.endswith(_LIST):
                yield from _listed(url, retry, faults)
            elif not is_remote(url) and Path(url).expanduser().is_dir():
                yield from map(str, sorted(Path(url).expanduser().glob("*.tar*")))
            else:
                yield url


def _expanded(pattern: str) -> Iterator[str]:
    try:
        from braceexpand import braceexpand
    except ImportError:
        raise DataError(
            f"{pattern}: reading tars without an index needs webdataset (pip install 'bigtrain[webdataset]')"
        ) from None
    try:
        yield from braceexpand(pattern)
    except ValueError:
        raise DataError(f"{pattern}: its braces do not match; write {{000000..000999}}.tar") from None


def _listed(place: str, retry: RetryPolicy, faults: FaultLog) -> Iterator[str]:
    """Iterate over the tars that a file names; paths are relative to its folder."""
    content = with_retries(lambda: _read(place, retry), place, retry, faults)
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        url = line.strip()
        if not url or url.startswith("#"):
            continue
        try:
            check_url(refuse_secrets(url, "passwords and keys do not belong in lists"))
        except ValueError as error:
            raise DataError(f"{place}: line {number}: {error}") from None
        if not is_remote(url):
            if is_remote(place):
                raise DataError(
                    f"{place}: line {number}: {url!r} is a local file; a list on a server may only name URLs"
                )
            url = str(Path(place).expanduser().parent / url)
        yield from _expanded(url)


def _read(place: str, retry: RetryPolicy) -> bytes:
    if not is_remote(place):
        try:
            return Path(place).expanduser().read_bytes()
        except OSError as error:
            raise DataError(f"{place}: cannot be read ({error.strerror})") from None
    content = b""
    for chunk in chunks_of(place, retry):
        content += chunk
        if len(content) > _LARGEST_LIST:
            raise DataError(f"{place}: a list of more than {_LARGEST_LIST:,} bytes")
    return content
