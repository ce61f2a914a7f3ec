from pathlib import Path

from bigtrain.tracking.spool import FILE_NAME, Spool, read_metrics, read_records


def kinds(folder: Path, offset: int = 0) -> list[tuple[str, int]]:
    return [(record["kind"], record["samples_seen"]) for record, _ in read_records(folder / FILE_NAME, offset)]


def test_what_was_reported_before_a_crash_is_not_reported_twice(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append("start", 0)
    for samples in (100, 200, 300):
        spool.append("metrics", samples, metrics={"loss/d": samples / 100})
    spool.append("metrics", 300, metrics={"eval/fid": 9.0})
    again = Spool(tmp_path)  # back at the checkpoint of 100
    for samples in (200, 300, 400):
        again.append("metrics", samples, metrics={"loss/d": samples / 100})
    curve = [(0.1, 1.0), (0.2, 2.0), (0.3, 3.0), (0.4, 4.0)]
    assert read_metrics(tmp_path) == {"loss/d": curve, "eval/fid": [(0.3, 9.0)]}


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append("metrics", 1, metrics={"a": 1.0})
    (_, offset), *_ = read_records(tmp_path / FILE_NAME)
    spool.append("image", 2, key="fakes", file="x.png")
    assert kinds(tmp_path, offset) == [("image", 2)]


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    Spool(tmp_path).append("metrics", 1, metrics={"a": 1.0})
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"kind": "metr')
    assert kinds(tmp_path) == [("metrics", 1)]
    Spool(tmp_path).append("metrics", 2, metrics={"a": 1.0})
    assert kinds(tmp_path) == [("metrics", 1), ("metrics", 2)]


def test_what_a_rollback_takes_back_is_reported_anew(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for samples in (100, 200, 300):
        spool.append("metrics", samples, metrics={"loss/d": 1.0})
    spool.append("rollback", 100, reason="it diverged", begun=300)
    spool.append("metrics", 100, metrics={"loss/d": 2.0})  # was not taken back
    spool.append("metrics", 200, metrics={"loss/d": 2.0})
    again = Spool(tmp_path)  # killed after the rollback
    for samples in (200, 300):
        again.append("metrics", samples, metrics={"loss/d": 3.0})
    assert read_metrics(tmp_path) == {"loss/d": [(0.1, 1.0), (0.2, 2.0), (0.3, 3.0)]}


def test_the_length_of_another_runs_spool_may_end_within_a_line(tmp_path: Path) -> None:
    """PBT copies a checkpoint, which knows the length of the other run's spool, into a run with a longer one."""
    spool = Spool(tmp_path)
    for samples in (100, 200):
        spool.append("metrics", samples, metrics={"loss/d": 1.0})
    content = (tmp_path / FILE_NAME).read_bytes()
    for mark in range(1, len(content) + 2):
        if content[mark - 1 : mark] != b"\n":
            again = Spool(tmp_path)
            again.go_on(mark)
            again.append("metrics", 200, metrics={"loss/d": 2.0})
    assert (tmp_path / FILE_NAME).read_bytes() == content
