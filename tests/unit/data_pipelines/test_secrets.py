import json
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.logging import close_log_file, crash_log, log, log_to_file
from bigtrain.engine.shards_config import ShardsConfig
from data_pipelines.errors import DataError
from data_pipelines.faults import Fault, FaultLog
from data_pipelines.manifest import Manifest
from data_pipelines.prepare import open_source
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.secrets import hide_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach postgresql://me:hush@db/mlflow now", "cannot reach postgresql://***@db/mlflow now"),
        ("https://u:p@host:80/x and s3://AKIA:abc/def@bucket", "https://***@host:80/x and s3://***@bucket"),
        ("https://h/a.tar?X-Amz-Signature=0af&x=1", "https://h/a.tar?X-Amz-Signature=***&x=1"),
        ("https://h/a?access_token=t0p&sig=1", "https://h/a?access_token=***&sig=***"),
        ("http://127.0.0.1:5000/#/runs?page=2", "http://127.0.0.1:5000/#/runs?page=2"),
        ("loss 0.5 at 12:30:11, a@b.c", "loss 0.5 at 12:30:11, a@b.c"),
        ("https://ghp_t0ken@host/x", "https://***@host/x"),
        ("https://me:a/b?c#d@host/x", "https://***@host/x"),
        ("postgresql://me:1/2@db/x, postgresql://me@db/x", "postgresql://***@db/x, postgresql://me@db/x"),
        ("http://host:4873/@fluentui/x and https://h/@a/b", "http://host:4873/@fluentui/x and https://h/@a/b"),
        (
            "/x?client_secret=a&api-key=b&auth=c&passwd=d&n=1",
            "/x?client_secret=***&api-key=***&auth=***&passwd=***&n=1",
        ),
        ("https://h/a#access_token=hush", "https://h/a#access_token=***"),
        ("pipe:curl -H 'Authorization: Bearer hush' https://h", "pipe:curl -H 'Authorization: ***' https://h"),
        ("curl -u me:hush -H 'X-Api-Key: hush' h", "curl -u *** -H 'X-Api-Key: ***' h"),
        ("pipe:AWS_SECRET_ACCESS_KEY=hush aws s3 cp s3://b/k -", "pipe:AWS_SECRET_ACCESS_KEY=*** aws s3 cp s3://b/k -"),
        ("key AKIAIOSFODNN7EXAMPLE of me", "key *** of me"),
        ("x --password 'hush hush' --token=hush y", "x --password *** --token=*** y"),
        ('{"token": "hush", "n": 1}', '{"token": "***", "n": 1}'),
        ("write dotted.key=value; author=me, monkey=1", "write dotted.key=value; author=me, monkey=1"),
        ("optim.G.lr=4e-4 data.path=/data/ffhq", "optim.G.lr=4e-4 data.path=/data/ffhq"),
    ],
)
def test_secrets_are_hidden(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


def test_a_config_may_not_hold_one() -> None:
    data = {"path": "http://me:hush@host/set", "resolution": 8}
    with pytest.raises(
        ConfigError, match=r"'path': http://\*\*\*@host/set contains a password or a key.*netrc"
    ) as said:
        parse_config(ShardsConfig, data, source="run.yaml")
    assert "hush" not in str(said.value)


def test_the_list_of_damaged_files_holds_none(tmp_path: Path) -> None:
    FaultLog(tmp_path / "quarantine.jsonl").quarantine(Fault("https://h/a.tar?sig=hush", "broken off"))
    assert json.loads((tmp_path / "quarantine.jsonl").read_text())["file"] == "https://h/a.tar?sig=***"


def test_the_log_file_holds_none_nor_its_tracebacks(tmp_path: Path) -> None:
    log_to_file(tmp_path / "rank0.log")
    try:
        log.warning("cannot reach https://me:hush@host/x")
        try:
            raise ValueError("https://h/a.tar?sig=hush")
        except ValueError:
            crash_log.exception("rank 0 failed")
    finally:
        close_log_file()
    text = (tmp_path / "rank0.log").read_text()
    assert "https://***@host/x" in text and "ValueError: https://h/a.tar?sig=***" in text
    assert "hush" not in text


def test_a_long_line_takes_no_time() -> None:
    for text in ("a" * 200_000, "secret" * 40_000, "://" * 60_000, "a:" * 100_000, "x-" * 100_000):
        begun = time.monotonic()
        assert hide_secrets(text) == text
        assert time.monotonic() - begun < 5


def png() -> bytes:
    stream = BytesIO()
    Image.new("RGB", (8, 8), 7).save(stream, "PNG")
    return stream.getvalue()


def test_a_tar_cannot_write_outside(tmp_path: Path) -> None:
    """Members with names that climb out, absolute ones and links: they are names, nothing is unpacked."""
    secret = tmp_path / "secret"
    secret.write_text("hush")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for name in ("../../climbed.png", f"{tmp_path}/absolute.png", "plain.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png())
            tar.addfile(member, BytesIO(png()))
        for kind, name in ((tarfile.SYMTYPE, "link.png"), (tarfile.LNKTYPE, "hard.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            tar.addfile(member)
    before = {path for path in tmp_path.parent.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    (manifest,) = prepare(open_source(str(tmp_path / "evil.tar")), out, PrepareOptions(), workers=1).values()
    made = {path for path in tmp_path.parent.rglob("*") if path.is_file()} - before
    assert made
    assert all(path.is_relative_to(out) for path in made)
    assert manifest.count == 3
    assert all(b"hush" not in path.read_bytes() for path in made)


@pytest.mark.parametrize("name", ["../shard.tar", "a/../../shard.tar", "..\\shard.tar"])
def test_a_manifest_cannot_point_outside(tiny_shards: Path, name: str) -> None:
    document = json.loads((tiny_shards / "manifest.json").read_text())
    document["shards"][0]["url"] = name
    (tiny_shards / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="points outside of the dataset folder"):
        Manifest.load(tiny_shards)
