from argparse import Namespace

import pytest

from launch import gate
from launch.slurm.task import address_towards, command_of, interface_of, place_of, sockets_of, way_to_the_store


def test_the_interface_is_the_one_that_leads_to_the_first_node() -> None:
    assert address_towards("127.0.0.1") == "127.0.0.1"
    assert interface_of("127.0.0.1") == "lo"
    with pytest.raises(OSError, match=r"no network interface has the address 192\.0\.2\.1"):
        interface_of("192.0.2.1")


def test_a_task_becomes_an_agent_or_a_rank() -> None:
    node = {"SLURM_NNODES": "2", "SLURM_NODEID": "1", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
    options = Namespace(form="srun", ranks_per_node=2, head="10.0.0.1", port="20007", save_seconds=60, words=["c.yaml"])
    assert command_of(options, node)[1:] == ["-m", "bigtrain.train", "c.yaml"]
    place = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert place_of("srun", 2, node) == place
    options.form = "torchrun"
    command = command_of(options, node)
    meeting = {"--rdzv-conf=rank=1", "--rdzv-backend=loopback", "--rdzv-endpoint=127.0.0.1:20007"}
    assert {"--nnodes=2", "--nproc-per-node=2", *meeting} <= set(command)
    assert not any("10.0.0.1" in word for word in command), "the agent knows its way to the store alone"
    assert place_of("torchrun", 2, node) == {}
    alone = command_of(options, {**node, "SLURM_NNODES": "1"})
    assert {"--rdzv-backend=loopback", "--local-addr=127.0.0.1", "--nproc-per-node=2"} <= set(alone)
    assert not any("--nnodes" in word for word in alone)


def test_several_nodes_never_talk_over_the_loopback_interface() -> None:
    """Debian's own /etc/hosts maps a node's name to 127.0.1.1: NCCL took `lo`, and the other nodes waited."""
    names, problem = sockets_of("127.0.0.1", alone=False, interface=None, environment={})
    assert names["NCCL_SOCKET_IFNAME"] == "lo"
    assert problem and "called 127.0.0.1, which is its loopback interface" in problem and "set `interface`" in problem
    inherited = {"NCCL_SOCKET_IFNAME": "lo"}
    _, problem = sockets_of("127.0.0.1", alone=False, interface="ib0", environment=inherited)
    assert problem and problem.startswith("the environment has NCCL_SOCKET_IFNAME=lo")
    lo = dict.fromkeys(names, "lo")
    assert sockets_of("127.0.0.1", alone=False, interface="lo", environment={}) == (
        lo,
        None,
    )  # as a test cluster has it
    ib = {"GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "ib0"}
    assert sockets_of("127.0.0.1", alone=False, interface="ib0", environment={}) == (ib, None)


def test_one_node_uses_the_loopback_interface() -> None:
    lo = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    assert sockets_of("10.0.0.1", alone=True, interface="ib0", environment={}) == (lo, None)


def test_the_first_task_opens_the_gate_and_the_others_the_way_and_none_keeps_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("open_gate", "open_way"):
        monkeypatch.setattr(gate, name, lambda *words, name=name: asked.append((name, *words)) or 4711)
    asked: list[tuple[object, ...]] = []
    for form, node in (("torchrun", "0"), ("torchrun", "1"), ("srun", "0"), ("srun", "1")):
        environment = {gate.TOKEN: "secret", "SLURM_NODEID": "0" if form == "srun" else node, "SLURM_PROCID": node}
        assert way_to_the_store(form, "10.0.0.1", 20007, environment) == (4711, None)
        assert gate.TOKEN not in environment
    assert [name for name, *_ in asked] == ["open_gate", "open_way", "open_gate", "open_way"]
    assert set(asked) == {(name, "10.0.0.1", 20007, "secret") for name in ("open_gate", "open_way")}
    port, problem = way_to_the_store("srun", "10.0.0.1", 20007, {})
    assert port is None and problem and "has no token: submit the run again" in problem
