"""What MLflow will never take, however often it is asked, and what mends it."""

import os
import re
from urllib.parse import urlsplit

from bigtrain.core.config import ConfigError

_LATER = (408, 409, 423, 425, 429)
"""HTTP answers of the kind 4xx that may be others in a moment."""
_LONGEST = 1000
_BAD = re.compile(r"[^\w.\- /:]")
_NO_ANSWER = re.compile(r"failed with (timeout )?exception|too many \d+ error responses|Max retries exceeded")
"""What MLflow says of a server that was not reached: while it sends files, under the number of a refusal."""
_BY_THE_SERVER = (
    "let the server store them (--artifacts-destination in place of --default-artifact-root), in a new experiment "
    "(tracking.experiment=NAME)"
)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "S3UploadFailedError", "DefaultCredentialsError")
"""Errors of the clients of S3 and of Google's store, by name: these packages need not be installed."""
_FOLDER_IS_FINE = "MLFLOW_ALLOW_FILE_STORE"
_NO_FOLDER = (
    f"this version of MLflow cannot write to a folder: use sqlite:///FILE or a server's address, or set "
    f"{_FOLDER_IS_FINE}=true (`mlflow migrate-filestore` moves what a folder holds into a database)"
)


class RefusedError(Exception):
    """MLflow answers, and does not take the run."""


def check_tracking_uri(uri: str | None, *, setting: str) -> None:
    """See that a tracking server's address is none that MLflow always refuses.

    Args:
        uri: the address; None for the usual database.
        setting: what it comes from, for messages.

    Raises:
        ConfigError: it is a folder.
    """
    if uri and _is_folder(uri) and not _folders_are_fine():
        raise ConfigError(f"{setting} {uri}: {_NO_FOLDER}; tracking.mlflow=false trains without MLflow")


def why_refused(error: Exception, uri: str) -> str | None:
    """Return why a call to MLflow can never succeed, with what mends it; None if it may succeed later.

    Args:
        error: what the call raised.
        uri: the tracking server's address.
    """
    if isinstance(error, ImportError):
        return (
            f"the Python package {error.name} is missing, which {urlsplit(uri).scheme}: addresses need: pip install it"
        )
    if isinstance(error, UnicodeError):
        return f"it has characters that cannot be sent ({error.reason if hasattr(error, 'reason') else error})"
    if isinstance(error, PermissionError):
        return (
            f"{error.filename or 'its folder'} cannot be written from here (permission denied); if it is where the "
            f"server keeps artifacts: {_BY_THE_SERVER}, or make the folder writable"
        )
    if type(error).__name__ in _NO_CREDENTIALS:
        return (
            f"the store of artifacts refuses ({error}); set its credentials, such as AWS_ACCESS_KEY_ID; or "
            f"{_BY_THE_SERVER}"
        )
    status = http_status(error)
    if _NO_ANSWER.search(str(error)):
        return None
    if status is None or not 400 <= status < 500 or status in _LATER:
        return None
    if _is_folder(uri) and not _folders_are_fine():
        return _NO_FOLDER
    message = " ".join(str(error).split())[:_LONGEST]
    if status in (401, 403):
        return (
            f"the user may not write there: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            f"MLFLOW_TRACKING_TOKEN ({message})"
        )
    if status == 413:
        return f"it is larger than the server, or a proxy before it, takes (nginx: client_max_body_size; {message})"
    if status == 404 and "endpoint" in message.lower():
        return f"there is no MLflow server at this address ({message})"
    return message


def http_status(error: Exception) -> int | None:
    """Return the HTTP answer that an error of MLflow's stands for; None for any other error."""
    if found := re.search(r"failed with error code (\d{3})\b", str(error)):
        return int(found[1])
    status = getattr(error, "get_http_status_code", None)
    return int(status()) if status is not None else None


def storable(name: str) -> str:
    """Return a name that MLflow takes for a metric, a parameter or a tag; others, such as of classes, are changed.

    What is changed gets a number behind it that depends on the name, so that two names stay two.
    """
    parts = [part for part in _BAD.sub("_", name).split("/") if part not in ("", ".", "..")]
    changed = "/".join(parts)[:240]
    return name if changed == name else f"{changed}_{sum(map(ord, name)) % 10_000:04d}"


def _is_folder(uri: str) -> bool:
    return urlsplit(uri).scheme in ("", "file")


def _folders_are_fine() -> bool:
    return os.environ.get(_FOLDER_IS_FINE, "").lower() in ("true", "1")
