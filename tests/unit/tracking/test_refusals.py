"""What MLflow will never take is told once, with what mends it; what may pass later is tried again."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bigtrain.core.config import ConfigError
from bigtrain.tracking.refusals import RefusedError, check_tracking_uri, storable, why_refused


class MlflowError(Exception):
    """As MLflow's own: with an HTTP answer that it stands for."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.get_http_status_code = lambda: status


SERVER = "http://mlflow:5000"
LONG = "The filesystem tracking backend is in maintenance mode. " + 9 * "Please migrate to a database backend. "


@pytest.mark.parametrize(
    ("error", "uri", "words"),
    [
        (MlflowError(LONG, 400), "file:///x/mlruns", "cannot write to a folder: use sqlite:///FILE"),
        (
            MlflowError("API request to endpoint /api failed with error code 401 != 200", 500),
            SERVER,
            "TRACKING_USERNAME",
        ),
        (MlflowError("permission denied", 403), SERVER, "MLFLOW_TRACKING_TOKEN"),
        (MlflowError("API request to endpoint /x failed with error code 404 != 200", 404), SERVER, "no MLflow server"),
        (MlflowError(f"{LONG} set THIS=true", 400), SERVER, "set THIS=true"),
        (ModuleNotFoundError("No module named 'psycopg'", name="psycopg"), "postgresql://db/x", "psycopg is missing"),
        (PermissionError(13, "Permission denied", "/mlflow"), SERVER, "/mlflow cannot be written from here"),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate"), SERVER, "AWS_ACCESS_KEY_ID"),
        (
            MlflowError("API request to endpoint /api failed with error code 413 != 200", 500),
            SERVER,
            "client_max_body_size",
        ),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), SERVER, "surrogates not allowed"),
    ],
)
def test_what_will_never_pass_is_told_whole(error: Exception, uri: str, words: str) -> None:
    why = why_refused(error, uri)
    assert why is not None
    assert words in why
    assert "\n" not in why


@pytest.mark.parametrize(
    "error",
    [
        MlflowError("connection refused", 500),
        MlflowError("API request failed with error code 429 != 200", 400),
        MlflowError("busy", 503),
        MlflowError("MlflowException: API request to http://x/mlflow-artifacts failed with exception Max retries", 400),
        TimeoutError(),
        OSError(28, "No space left on device"),
    ],
)
def test_what_may_pass_later_is_no_refusal(error: Exception) -> None:
    assert why_refused(error, SERVER) is None


def test_a_folder_is_told_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    for uri in (None, "sqlite:///mlflow.db", SERVER):
        check_tracking_uri(uri, setting="tracking.uri")
    for uri in ("./mlruns", "file:///x/mlruns"):
        with pytest.raises(
            ConfigError, match=r"MLFLOW_TRACKING_URI .*mlruns: .*sqlite:///FILE.*MLFLOW_ALLOW_FILE_STORE"
        ):
            check_tracking_uri(uri, setting="MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_tracking_uri("./mlruns", setting="MLFLOW_TRACKING_URI")


def test_names_become_ones_that_mlflow_takes() -> None:
    for name in ("eval/fid5k", "class_fid_café", "T-shirt/top", "a b:c"):
        assert storable(name) == name
    changed = [storable(name) for name in ("a,b", "a;b", "/x", "x//y", "x/../y", "caf\udce9")]
    assert len(set(changed)) == len(changed)
    assert all(storable(name) == name for name in changed)
    for name in changed:
        name.encode()


def test_a_deleted_experiment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bigtrain.tracking import mlflow

    deleted = SimpleNamespace(lifecycle_stage="deleted", experiment_id="7")
    client = SimpleNamespace(get_experiment_by_name=lambda name: deleted)
    monkeypatch.setattr(mlflow, "MlflowClient", lambda uri: client)
    target = mlflow.Target(SERVER, "pets", "run", None, "key", 0)
    with pytest.raises(RefusedError, match=r"'pets' was deleted: `mlflow experiments restore --experiment-id 7`"):
        mlflow.MlflowRun(target, tmp_path, None)
