"""The engine of a Ray cluster: two nodes on this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from detrojan.errors import DataError, DetrojanError, OptionError
from detrojan.learning.fresh import start_net
from detrojan.models.writing import save_model
from detrojan.run import Run
from detrojan.runner.base import engine_named
from detrojan.runner.here import Here

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def cluster():
    """Return the address of two nodes with a core each."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - it may not be installed

    here = Path(__file__).resolve()
    paths = [*map(str, here.parents[:3]), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        nodes.add_node(num_cpus=1)
        yield nodes.address
        nodes.shutdown()


def work(run, item):
    """Return a number of the item's own stream and where it was drawn; fail, or die once, where told."""
    if isinstance(item, Path) and not item.exists():
        item.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "bad":
        raise DataError("expected better data")
    if item == "deadly":
        os._exit(3)
    number = torch.rand(1, generator=run.generator(str(item).rpartition("/")[2])).item()
    return number, os.environ.get("RAY_NODE_ID", "") or node()


def node():
    import ray  # noqa: PLC0415 - it may not be installed

    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"


def test_results_are_those_of_one_process_and_a_lost_worker_costs_nothing_but_time(cluster, tmp_path):
    items = ["a", "b", "bad", tmp_path / "once", "deadly", "c", "d"]
    engine = engine_named("ray", workers=2, address=cluster)
    found = sorted(engine.outcomes(work, items, run=Run(seed=5)), key=lambda one: one.place)
    (tmp_path / "once").touch()
    alone = list(Here().outcomes(work, [item for item in items if item != "deadly"], run=Run(seed=5)))
    assert [one.place for one in found] == list(range(7))
    numbers = [one.value[0] for one in found if one.value]
    assert numbers == [one.value[0] for one in alone if one.value]
    assert isinstance(found[2].error, DataError)
    assert len(found[3].deaths) == 1
    assert "worker was lost" in found[3].deaths[0]
    assert found[4].lost
    assert isinstance(found[4].error, DetrojanError)
    assert "given up after 3 tries" in str(found[4].error)
    assert len({one.value[1] for one in found if one.value}) == 2, "both nodes have worked"


def test_a_fleet_has_the_same_verdicts_on_two_nodes_as_in_one_process(cluster, tmp_path):
    from detrojan.jobs.fleet.finding import find_models  # noqa: PLC0415
    from detrojan.jobs.fleet.policy import Policy  # noqa: PLC0415
    from detrojan.jobs.fleet.work import Fleet  # noqa: PLC0415

    (tmp_path / "models").mkdir()
    for seed in range(3):
        net = start_net("mnist_cnn", (1, 20, 20), classes=8, run=Run(seed=seed))
        save_model(net, tmp_path / "models" / f"{seed}.safetensors")
    (tmp_path / "models" / "cut.pt").write_bytes(b"PK\3\4 cut")
    policy = Policy(scan={"method": "head_rows"})
    said = []
    for engine in (engine_named("ray", workers=2, address=cluster), Here()):
        fleet = Fleet(
            find_models([str(tmp_path / "models")]), policy, run=Run(), engine=engine,
            out=tmp_path / engine.name, budget=None,
        )  # fmt: skip
        models = fleet.scan().record.models
        said.append([model.model_copy(update={"seconds": 0, "when": ""}) for model in models])
    assert said[0] == said[1]
    assert [model.status for model in said[0]] == ["scanned"] * 3 + ["skipped"]


def test_no_cluster_at_an_address_is_an_error():
    with pytest.raises(OptionError, match="expected a Ray cluster at"):
        list(engine_named("ray", address="127.0.0.1:1").outcomes(work, ["a"], run=Run()))
