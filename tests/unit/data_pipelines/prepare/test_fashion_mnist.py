import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from data_pipelines.errors import DataError
from data_pipelines.prepare import NAMED_SOURCES, fashion_mnist
from data_pipelines.protocol import ImageProtocol
from data_pipelines.read import ShardDataset
from data_pipelines.write import ShardOptions, write_shards


def test_the_embedded_images_are_ten_thousand_in_ten_classes(fashion: Path) -> None:
    manifest = ShardDataset(fashion).manifest
    assert manifest.count == 10_000
    assert manifest.class_histogram == [1000] * 10
    assert (manifest.resolution, manifest.channels) == (32, 1)
    assert manifest.digest == "6e250edc1fd67437cdb6f1299cace84d47583e8ac13c4e2b1d8edf3ecfe90f4a"


def test_padded_images_do_not_shrink(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 10000 images is usable.*larger than 16x16"):
        write_shards(
            NAMED_SOURCES["fashion-mnist-10k"]("all"),
            tmp_path / "x",
            ShardOptions(protocol=ImageProtocol(16, 16, 1, "pad")),
        )


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_full_set_comes_from_debians_package() -> None:
    source = fashion_mnist.full()
    assert len(source.items) == 70_000
    assert "Debian" in source.origin


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A loopback web server in the place of the official address."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()


def test_elsewhere_it_is_fetched_and_checked(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = server
    embedded = {name: fashion_mnist.EMBEDDED / name.replace("train", "t10k") for name in fashion_mnist.CONTENT_SHA256}
    checksums = {name: fashion_mnist.CONTENT_SHA256[path.name] for name, path in embedded.items()}
    monkeypatch.setattr(fashion_mnist, "CONTENT_SHA256", checksums)
    for name, path in embedded.items():
        (folder / name).write_bytes(path.read_bytes())
    fetched = fashion_mnist.full(debian=tmp_path / "none", url=url, cache=tmp_path / "cache")
    assert len(fetched.items) == 20_000
    assert fetched.origin == url


def test_a_wrong_download_is_refused(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="not a complete gzip file"):
        fashion_mnist.full(debian=tmp_path / "none", url=url, cache=tmp_path / "cache")
    (tmp_path / "cache" / "train-images-idx3-ubyte.gz").unlink()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(
        (fashion_mnist.EMBEDDED / "t10k-labels-idx1-ubyte.gz").read_bytes()
    )
    with pytest.raises(DataError, match="expected c59f468a"):
        fashion_mnist.full(debian=tmp_path / "none", url=url, cache=tmp_path / "cache")


def test_without_a_connection_it_says_where_to_put_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded .*by hand"):
        fashion_mnist.full(debian=tmp_path / "none", url="http://127.0.0.1:9", cache=tmp_path / "cache")
