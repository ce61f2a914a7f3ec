"""The manifest says exactly what is there; a damaged one gives one clear line."""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.index import index_dtype, load_index, save_index
from data_pipelines.manifest import FORMAT, FORMAT_5, Manifest
from data_pipelines.shard_table import ROW, TABLE, Shard

SHARD = Shard("shard-000000.tar", "shard-000000.index.npy", 3, 10_240, "a" * 64, "2 1")
MANIFEST = Manifest(
    name="tiny",
    fields={
        "image": FieldSpec("image", (3, 4, 6), "uint8", codec="png"),
        "class": FieldSpec("class", (), "int64", ("cat", "dog")),
        "text": FieldSpec("text", (20,), "uint8", codec="txt"),
        "sound": FieldSpec("audio", (1, 100), "int16", rate=8000, codec="flac"),
    },
    protocol="none",
    licence="none",
    source="nowhere",
    members=("json",),
    rejected=1,
    shards=(SHARD, replace(SHARD, url="s3://bucket/shard-000001.tar", index="shard-000001.index.npy")),
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    loaded = Manifest.load(tmp_path)
    assert loaded == MANIFEST
    assert loaded.digest == MANIFEST.digest
    assert (loaded.shape, loaded.count, loaded.bytes) == ((3, 4, 6), 6, 20_480)
    assert (loaded.resolution, loaded.channels, loaded.codec, loaded.classes) == (4, 3, "png", ("cat", "dog"))
    assert loaded.stored == ("image", "sound", "text")
    assert loaded.class_histogram == [4, 2]


def test_of_older_manifests_nothing_is_known_of_the_indexes(tmp_path: Path) -> None:
    entry = SHARD.document()
    assert "index_sha256" not in entry
    assert replace(SHARD, index_sha256="c" * 64).document() == {**entry, "index_sha256": "c" * 64}
    shards = (replace(SHARD, index_sha256="c" * 64), MANIFEST.shards[1])
    for form in (FORMAT, FORMAT_5):
        written = replace(MANIFEST, shards=shards, format=form)
        written.save(tmp_path)
        loaded = Manifest.load(tmp_path)
        assert [shard.index_sha256 for shard in loaded.shards] == ["c" * 64, ""]
        assert loaded.digest == written.digest
    assert replace(MANIFEST, shards=shards).digest == MANIFEST.digest  # the sets made before go on


def test_a_table_without_sums_of_indexes_is_read(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, format=FORMAT_5)
    manifest.save(tmp_path)
    table, document = tmp_path / TABLE, json.loads((tmp_path / "manifest.json").read_text())
    older = np.frombuffer(table.read_bytes(), ROW)[["count", "bytes", "entries_end", "sha256"]]
    table.write_bytes(b"".join(row.tobytes() for row in older.astype(np.dtype(ROW.descr[:-1]))))
    document["table"]["sha256"][TABLE] = hashlib.sha256(table.read_bytes()).hexdigest()
    content = {key: value for key, value in document.items() if key not in ("format", "digest")}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    document["digest"] = hashlib.sha256(canonical.encode()).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    loaded = Manifest.load(tmp_path)
    assert [shard.sha256 for shard in loaded.shards] == [shard.sha256 for shard in MANIFEST.shards]
    assert [shard.index_sha256 for shard in loaded.shards] == ["", ""]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"fields": {**MANIFEST.fields, "image": FieldSpec("image", (3, 6, 4), "uint8", codec="png")}},
        {"protocol": "other"},
        {"licence": "other"},
        {"fields": {name: spec for name, spec in MANIFEST.fields.items() if name != "text"}},
        {"members": ()},
        {"rejected": 0},
        {"shards": (SHARD,)},
        {"shards": (replace(SHARD, sha256="b" * 64), MANIFEST.shards[1])},
    ],
)
def test_the_digest_covers_everything(change: dict) -> None:
    assert replace(MANIFEST, **change).digest != MANIFEST.digest


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["extra"], 1, "the manifest has unknown extra"),
        (["protocol"], ..., "the manifest lacks protocol"),
        (["fields"], [], "fields is not an object"),
        (["fields"], {}, "no field that is stored"),
        (["fields", "a.b"], {}, "field 'a.b': expected a name"),
        (["fields", "image"], 3, "field 'image' is not an object"),
        (["fields", "image", "shape"], ..., "field 'image' lacks shape"),
        (["fields", "image", "shape"], [3, 0, 4], "field 'image' shape is"),
        (["fields", "image", "shape"], [3, True, 4], "field 'image' shape is"),
        (["fields", "image", "dtype"], "object", "field 'image' dtype is 'object'"),
        (["fields", "image", "dtype"], "smell", "dtype 'smell' is not known"),
        (["fields", "image", "codec"], 4, "field 'image' codec is 4"),
        (["fields", "image", "smell"], 4, "field 'image' has unknown smell"),
        (["fields", "sound", "rate"], "high", "field 'sound' rate is 'high'"),
        (["fields", "class", "classes"], [1, 2], "field 'class' classes is not a list of names"),
        (["fields", "class", "kind"], "text", "field of kind class is 'class'"),
        (["members"], "json", "members is not a list"),
        (["rejected"], -1, "rejected is not"),
        (["licence"], None, "licence is not a text"),
        (["shards"], [], "lists no shards"),
        (["shards", 1], "x.tar", "shard 1 is not an object"),
        (["shards", 0, "count"], -3, "count of shard 0 is -3"),
        (["shards", 0, "bytes"], 0.5, "bytes of shard 0 is 0.5"),
        (["shards", 0, "sha256"], "A" * 64, "sha256 of shard 0"),
        (["shards", 0, "class_counts"], "1", "class_counts of shard 0 is not 2 numbers"),
        (["shards", 0, "class_counts"], "4 -1", "class_counts of shard 0"),
        (["shards", 0, "class_counts"], [2, 1], "class_counts of shard 0"),
        (["shards", 0, "url"], "../x.tar", "points outside"),
        (["shards", 0, "url"], "a/../../x.tar", "points outside"),
        (["shards", 0, "url"], "ftp://../x.tar", "points outside"),
        (["shards", 0, "index"], "/etc/index.npy", "points outside"),
    ],
)
def test_a_wrong_manifest_is_one_clear_line(tmp_path: Path, path: list, value: object, words: str) -> None:
    MANIFEST.save(tmp_path)
    document = json.loads((tmp_path / "manifest.json").read_text())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=words) as caught:
        Manifest.load(tmp_path)
    assert "manifest.json: damaged manifest: " in str(caught.value)
    assert "\n" not in str(caught.value)


@given(text=st.text() | st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner)).map(json.dumps))
def test_no_text_is_more_than_a_data_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError):
        Manifest.load(folder)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("shard.tar", "/set/shard.tar"),
        ("/data/shard.tar", "/data/shard.tar"),
        ("https://host/shard.tar", None),
        ("s3://bucket/shard.tar", None),
        ("pipe:cat /data/shard.tar", None),
    ],
)
def test_a_shard_says_where_it_lies(url: str, path: str | None) -> None:
    assert replace(SHARD, url=url).path(Path("/set")) == (path and Path(path))


def test_ten_thousand_shards_of_a_thousand_classes_load_fast(tmp_path: Path) -> None:
    shard = replace(SHARD, count=1000, class_counts=" ".join(["1"] * 1000))
    shards = tuple(replace(shard, url=f"{n}.tar", index=f"{n}.index.npy") for n in range(10_000))
    classes = FieldSpec("class", (), "int64", tuple(map(str, range(1000))))
    replace(MANIFEST, fields={**MANIFEST.fields, "class": classes}, shards=shards).save(tmp_path)
    start = time.process_time()
    loaded = Manifest.load(tmp_path)
    assert time.process_time() - start < 1.0
    assert loaded.count == 10_000_000
    assert loaded.class_histogram == [10_000] * 1000


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (FieldSpec("smell", (3,), "uint8"), "field 'x': kind 'smell' is not known: array, audio, class"),
        (
            FieldSpec("image", (3, 4, 4), "float32", codec="png"),
            "field 'x': float32 of 3x4x4, expected uint8 or uint16",
        ),
        (
            FieldSpec("image", (3, 4, 4), "uint8", codec="gif"),
            "codec 'gif' is not a codec of the kind image: use png, jpeg",
        ),
        (FieldSpec("image", (5, 4, 4), "uint8", codec="png"), "png supports 1 or 2 or 3 or 4 channels, not 5"),
        (FieldSpec("audio", (1, 4), "int16", codec="wav"), "field 'x': has no rate"),
        (FieldSpec("classes", (3,), "float32", ("a", "b"), codec="npy"), "expected a float32 for each of its named"),
    ],
)
def test_a_field_that_cannot_be_is_one_clear_line(tmp_path: Path, field: FieldSpec, words: str) -> None:
    replace(MANIFEST, fields={**MANIFEST.fields, "x": field}).save(tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        Manifest.load(tmp_path)
    assert str(tmp_path / "manifest.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_without_images_has_no_image_size() -> None:
    with pytest.raises(DataError, match="tiny: has no field 'image'; its fields are text"):
        _ = replace(MANIFEST, fields={"text": MANIFEST.fields["text"]}).shape


def test_an_index_has_columns_for_its_fields(tmp_path: Path) -> None:
    path, dtype = tmp_path / "x.index.npy", index_dtype(("image", "text"), ("json",))
    save_index(path, [(1, 512, 9, 77, 1536, 5, 6, 0, 0, 0), (-1, 2560, 8, 78, 0, 0, 0, 4096, 2, 3)], dtype)
    rows = load_index(path, dtype)
    assert rows.dtype == dtype
    assert rows["label"].tolist() == [1, -1]
    assert rows["text.offset"].tolist() == [1536, 0]
    assert rows["text.crc32"].tolist() == [6, 0]
    assert rows["json.size"].tolist() == [0, 2]
    with pytest.raises(DataError, match="not an index of this format, with label, image.offset"):
        load_index(path, index_dtype(("image",)))


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    path, dtype = tmp_path / "x.index.npy", index_dtype(("image",))
    np.save(path, np.arange(3))
    with pytest.raises(DataError, match="not an index"):
        load_index(path, dtype)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="damaged index"):
        load_index(path, dtype)
    with pytest.raises(DataError, match="index is missing"):
        load_index(tmp_path / "y.index.npy", dtype)
