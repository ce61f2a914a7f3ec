import subprocess
from pathlib import Path

from bigtrain.tracking.node_metrics import parse_gpus, watch
from bigtrain.tracking.spool import read_records


def test_what_the_driver_says_of_gpus() -> None:
    found = parse_gpus("97, 70123, 645.10, 61\n3, 512, [N/A], 33\n")
    assert found["gpu_0_utilization_percentage"] == 97
    assert found["gpu_0_power_usage_watts"] == 645.1
    assert found["gpu_1_memory_usage_megabytes"] == 512
    assert "gpu_1_power_usage_watts" not in found


def test_a_watch_ends_with_what_it_follows_and_goes_on_counting(tmp_path: Path) -> None:
    for _ in range(2):
        with subprocess.Popen(["sleep", "0.5"]) as followed:  # it is asked after when the block ends
            watch(tmp_path, node=3, follow=followed.pid, seconds=0.1)
    records = [record for record, _ in read_records(tmp_path / "metrics" / "node3.jsonl")]
    assert [record["samples_seen"] for record in records] == list(range(len(records)))
    assert len(records) >= 4
    assert 0 <= records[-1]["metrics"]["system/node3/cpu_utilization_percentage"] <= 100
