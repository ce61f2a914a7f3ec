from pathlib import Path

import pytest

from bigtrain.core.config import ConfigError
from launch.slurm.settings import SlurmConfig, load_settings, seconds_of, tasks_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_command_line_goes_over_the_profile_over_the_users_file_over_the_repos(home: Path) -> None:
    write(home / "slurm/site.yaml", "partition: repo\naccount: repo\n")
    assert load_settings(None, {}).account == "repo"
    write(home / "home/bigtrain/slurm.yaml", "{partition: own, qos: own, mem: 1G, env: {NCCL_DEBUG: INFO}}")
    profile = write(home / "h100.yaml", "{qos: profile, mem: 2G, gpus_per_node: 8}")
    found = load_settings(profile, {"mem": "3G", "nodes": 4, "time": None})
    assert (found.partition, found.account, found.qos, found.mem) == ("own", None, "profile", "3G")
    assert (found.ranks, found.world_size, found.env) == (8, 32, {"NCCL_DEBUG": "INFO"})


def test_a_mistake_is_told_with_its_file_and_what_would_be_right(home: Path) -> None:
    profile = write(home / "bad.yaml", "partitoin: gpu\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml: unknown key 'partitoin' \(did you mean 'partition'\?\)"):
        load_settings(profile, {})
    with pytest.raises(
        ConfigError, match="MLFLOW_TRACKING_PASSWORD looks like a secret, and would be written.*set it in env_file"
    ):
        load_settings(None, {"env": {"MLFLOW_TRACKING_PASSWORD": "x"}})
    with pytest.raises(ConfigError, match="2 days.*write 30, 24:00:00"):
        load_settings(None, {"time": "2 days"})
    with pytest.raises(ConfigError, match="leaves nothing"):
        load_settings(None, {"time": "3"})
    with pytest.raises(ConfigError, match="one rank per GPU"):
        load_settings(None, {"gpus_per_node": 4, "ranks_per_node": 8})
    with pytest.raises(ConfigError, match="env_file nowhere.env: no such file"):
        load_settings(None, {"env_file": "nowhere.env"})
    with pytest.raises(ConfigError, match=r"'launch'.*'torchrun' or 'srun'"):
        load_settings(None, {"launch": "mpirun"})


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("30", 1800), ("30:10", 1810), ("24:00:00", 86400), ("2-1", 176400), ("2-1:30", 178200), ("1-0:0:7", 86407)],
)
def test_times_are_read_as_slurm_reads_them(time: str, seconds: int) -> None:
    assert seconds_of(time) == seconds


def test_arrays() -> None:
    assert tasks_of("0-3") == [0, 1, 2, 3]
    assert tasks_of("1,5-9:2%2") == [1, 5, 7, 9]
    with pytest.raises(ValueError, match="is not an array"):
        tasks_of("0..3")
    assert SlurmConfig(array="0-3").array == "0-3"
