"""Tars at URLs: fetched once, through faults of the server, and prepared as tars of this machine are."""

from pathlib import Path

import pytest

from data_pipelines.errors import DataError
from data_pipelines.prepare import open_source
from data_pipelines.prepare.place import Place
from data_pipelines.prepare.urls import from_urls
from data_pipelines.read import ShardDataset
from data_pipelines.write import write_shards
from tests.unit.data_pipelines.faulty_server import serve
from tests.unit.data_pipelines.test_tar_stream import QUICK, write_tar


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Twelve samples in two tars."""
    (tmp_path / "there").mkdir()
    for tar in range(2):
        write_tar(tmp_path / "there" / f"{tar:06d}.tar", range(6 * tar, 6 * tar + 6))
    return tmp_path / "there"


def test_the_set_is_that_of_the_same_tars_here(tars: Path, tmp_path: Path) -> None:
    told = []
    with serve(tars) as server:
        server.misdeeds |= {"000000.tar": ["503", "truncate"], "000001.tar": ["stall"]}
        place = Place(Path(), scratch=tmp_path / "here")
        source = from_urls(f"{server.url}/{{000000..000001}}.tar", place, lambda *of: told.append(of), QUICK)
        asked = server.requests.copy()
        again = from_urls(f"{server.url}/{{000000..000001}}.tar", place, retry=QUICK)
        assert server.requests == asked, "what is there was fetched once more"
    assert told == [(1, 2), (2, 2)]
    assert source.origin == f"{server.url}/{{000000..000001}}.tar"
    assert [item.name for item in source.items] == [item.name for item in again.items]
    write_shards(source, tmp_path / "fetched")
    write_shards(open_source(f"webdataset:{tars}"), tmp_path / "local")
    fetched, local = (ShardDataset(tmp_path / name).manifest for name in ("fetched", "local"))
    assert (fetched.count, fetched.classes, fetched.shards[0].sha256) == (12, local.classes, local.shards[0].sha256)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("URL/nothing.tar", "nothing.tar: the server answers 404"),
        ("https://me:secret@there/a.tar", "~/.netrc"),
        ("URL/{1..2.tar", "its braces do not match"),
        ("parquet:https://there/a.parquet", "only tars are downloaded; download it yourself, and prepare parquet:PATH"),
        ("pipe:curl https://there/a.tar", "would run a command"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(tars: Path, tmp_path: Path, text: str, words: str) -> None:
    with serve(tars) as server, pytest.raises(DataError, match=words.replace("(", r"\(")):
        open_source(text.replace("URL", server.url), scratch=tmp_path)
