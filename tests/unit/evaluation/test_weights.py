"""Weights are found, checked, and fetched by a real server; what broke off goes on where it ended."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from bigtrain.cli import main
from bigtrain.evaluation.fetching import fetch_weights
from bigtrain.models.pretrained.weights import WEIGHTS, PublishedWeights, WeightsError, find_weights, has_weights
from data_pipelines.remote import RetryPolicy

CONTENT = bytes(range(256)) * 20_000
HASTE = RetryPolicy(attempts=4, patience_s=0.05, first_wait_s=0.01, stall_s=5)


class Server(BaseHTTPRequestHandler):
    """Breaks off the first answer half-way; `/whole` knows no ranges; `/other` has something else."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        given = self.headers.get("Range")
        self.asked.append(given or "all")
        body = b"something else" if self.path == "/other" else CONTENT
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and self.path != "/whole" else 0
        if start >= len(body):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        first = len(self.asked) == 1 and self.path != "/other"
        self.wfile.write(body[start : len(body) // 2 if first else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def published(url: str) -> PublishedWeights:
    return PublishedWeights(("net.pth",), hashlib.sha256(CONTENT).hexdigest(), (url,), 5.1, "none")


@pytest.mark.parametrize("path", ["/ranges", "/whole"])
def test_what_broke_off_goes_on_where_it_ended(server: str, path: str, tmp_path: Path) -> None:
    sizes: list[int] = []
    found = fetch_weights(published(server + path), tmp_path, retry=HASTE, report=sizes.append)
    assert found.read_bytes() == CONTENT
    assert Server.asked == ["all", f"bytes={2 * 2**20}-"], "whole megabytes are kept"
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(CONTENT)
    fetch_weights(published(server + path), tmp_path)
    assert len(Server.asked) == 2, "what is there is not fetched again"
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_the_command_fetches_and_checks(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(WEIGHTS, "vgg16", published(f"{server}/ranges"))
    call = ["bigtrain", "weights", "fetch", "vgg16", "--to", str(tmp_path)]
    for url, code, told in (
        (f"{server}/other", 2, f"bigtrain: {server}/other: its content has sha256 "),
        (f"{server}/ranges", 0, f"{tmp_path / 'net.pth'}: {published('').sha256} (none)"),
    ):
        monkeypatch.setattr("sys.argv", [*call, "--url", url])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        assert told in "".join(capsys.readouterr())


def test_wrong_content_is_removed_and_named(server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"/other: its content has sha256 .* expected .* by hand"):
        fetch_weights(published(f"{server}/other"), tmp_path, retry=HASTE)
    assert not list(tmp_path.iterdir())


def test_weights_are_published_ones_or_vouched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="bigtrain weights fetch vgg16"):
        find_weights("vgg16")
    monkeypatch.setenv("BIGTRAIN_WEIGHTS", str(tmp_path))
    file = tmp_path / WEIGHTS["vgg16"].names[0]
    file.write_bytes(b"mine")
    assert has_weights("vgg16")
    with pytest.raises(WeightsError, match="the published weights have 397923af"):
        find_weights("vgg16")
    digest = hashlib.sha256(b"mine").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  {file.name}\n")
    found = find_weights("vgg16")
    assert (found.sha256, found.published) == (digest, False)
    assert found.label("vgg16", published="") == f"vgg16-{digest[:8]}"
    with pytest.raises(WeightsError, match="not a file of tensors"):
        found.load()
    file.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="has sha256"):
        find_weights("vgg16", file)
