import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from bigtrain.config import DataConfig
from bigtrain.core.config import ConfigError, parse_config
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
        ("https://u:p@host:80/x and s3://AKIA:abc/def@bucket", "https://***@host:80/x and s3://AKIA:abc/def@bucket"),
        ("https://h/a.tar?X-Amz-Signature=0af&x=1", "https://h/a.tar?X-Amz-Signature=***&x=1"),
        ("https://h/a?access_token=t0p&sig=1", "https://h/a?access_token=***&sig=***"),
        ("http://127.0.0.1:5000/#/runs?page=2", "http://127.0.0.1:5000/#/runs?page=2"),
        ("loss 0.5 at 12:30:11, a@b.c", "loss 0.5 at 12:30:11, a@b.c"),
    ],
)
def test_secrets_are_hidden(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


def test_a_config_may_not_hold_one() -> None:
    data = {"path": "http://me:hush@host/set", "resolution": 8}
    with pytest.raises(ConfigError, match=r"'path': http://\*\*\*@host/set holds a password or a key.*netrc") as said:
        parse_config(DataConfig, data, source="run.yaml")
    assert "hush" not in str(said.value)


def test_the_list_of_damaged_files_holds_none(tmp_path: Path) -> None:
    FaultLog(tmp_path / "quarantine.jsonl").quarantine(Fault("https://h/a.tar?sig=hush", "broken off"))
    assert json.loads((tmp_path / "quarantine.jsonl").read_text())["file"] == "https://h/a.tar?sig=***"


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
