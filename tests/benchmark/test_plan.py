from pathlib import Path

import pytest

from detrojan.benchmark.parts import Cell
from detrojan.benchmark.plan import load_plan
from detrojan.errors import InputError, OptionError

PLANS = sorted((Path(__file__).resolve().parents[2] / "benchmark" / "plans").glob("*.toml"))


def test_cells_are_every_combination_once_with_and_without(bench):
    cells = bench.plan().cells()
    assert len(cells) == len(set(cells)) == 6
    assert {(cell.attack, cell.defence) for cell in cells} == {
        (attack, defence) for attack in ("none", "badnets") for defence in ("none", "finetune", "unlearn")
    }
    assert {cell.seed for cell in cells} == {3}


def test_a_profile_s_values_go_before_the_plan_s(bench):
    assert bench.plan().networks["cnn"].fitting["batch_size"] == 32
    full = bench.plan(profile="full")
    assert full.networks["cnn"].fitting["batch_size"] == 64
    assert full.networks["cnn"].fitting["learning_rate"] == 0.002
    assert (full.sizes.train, full.sizes.epochs) == (None, 9)


def test_documents_figures_are_shares(bench):
    plan = bench.plan()
    cell = next(cell for cell in plan.cells() if (cell.attack, cell.defence) == ("badnets", "unlearn"))
    assert plan.referred(cell) == {"source": "a document", "ca": 0.975, "asr": 0.0125}
    assert plan.referred(cell.model_copy(update={"defence": "none"})) is None


def test_grids_choose(bench, plan_text):
    plan = bench.plan(plan_text + '\n[[grid]]\nattacks = ["badnets"]\ndefences = ["none"]\n')
    assert [(cell.attack, cell.defence) for cell in plan.cells()] == [("badnets", "none")]


def test_an_attacker_may_train_in_his_own_way(bench, plan_text):
    own = bench.workshop(
        plan_text.replace("[defences.finetune]", "fitting = { epochs = 5 }\n\n[defences.finetune]", 1)
    )
    attacked, clean = (
        own.fitting(Cell(data="blobs", network="cnn", attack=name, defence="none", seed=3))
        for name in ("badnets", "none")
    )
    assert (attacked.epochs, clean.epochs) == (5, 12)
    assert attacked.learning_rate == clean.learning_rate


WRONG = [
    ('method = "badnets"', 'method = "badnet"', r"attacks\.badnets: expected one of the attacks .*'badnet'"),
    ("poison_rate = 0.2", "poison_rate = 2", r"attacks\.badnets: expected poison_rate in \(0, 1\), got 2"),
    ("poison_rate = 0.2", "poison_rat = 2", r"expected a hyper-parameter of badnets .*got 'poison_rat'"),
    ("poison_rate = 0.2", "poison_rate = 'much'", r"poison_rate: Input should be a valid number.*'much'"),
    ('net = "mnist_cnn"', 'net = "cnn"', r"networks\.cnn: expected a network out of .*got 'cnn'"),
    ("learning_rate = 0.002", "rate = 0.05", r"networks\.cnn: expected a setting of the training .*'rate'"),
    ('room = "repairs"', 'room = "kitchen"', r"defences\.finetune\.room: Input should be .*'kitchen'"),
    ('findings = "original"', 'findings = "nc"', r"expected none, original or a scan's name, got 'nc'"),
    ("clean = 100", "clean = 1", r"data\.blobs\.clean: Input should be greater than .* 20, got 1"),
    ("clean = 100", "kleen = 100", r"data\.blobs\.kleen: no such setting, got 100"),
    ("at = [-10, 6]", "corner = 'top left'", r"expected one of picture, .*got pixels, corner"),
    ("epochs = 12", "epochs = 0", r"sizes\.epochs: Input should be greater than or equal to 1, got 0"),
    ("title =", "title", r"is no TOML"),
    ("seeds = [3]", "sha256 = 'x'", r"expected no 'sha256' in a plan"),
    ("[data.blobs]", "[[data.blobs]]", r"data\.blobs"),
]


@pytest.mark.parametrize(("old", "new", "says"), WRONG)
def test_a_wrong_plan_is_told_where_and_why(bench, plan_text, old, new, says):
    assert old in plan_text
    with pytest.raises(OptionError, match=says):
        bench.plan(plan_text.replace(old, new, 1))


def test_a_grid_of_unknown_parts(bench, plan_text):
    with pytest.raises(OptionError, match=r"grid 0: expected attacks out of none, badnets, got 'x'"):
        bench.plan(plan_text + '\n[[grid]]\nattacks = ["x"]\n')


def test_profiles_and_files_that_are_not_there(bench):
    with pytest.raises(OptionError, match="expected a profile out of cpu, full, got 'gpu'"):
        bench.plan(profile="gpu")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_plan(bench.folder / "nothing.toml", "cpu")


EXTENDING = """
extends = "plan.toml"
title = "More"

[networks.cnn]
shift = 1
fitting = { batch_size = 16 }

[attacks.strong]
method = "badnets"
set = { target = 3, poison_rate = 0.5 }
trigger = { corner = "top left", size = [3, 3] }

[[grid]]
attacks = ["none", "strong"]
"""


@pytest.fixture
def extending(tmp_path, plan_text):
    def load(text=EXTENDING, base=plan_text + '\n[[grid]]\nattacks = ["badnets"]\n'):
        (tmp_path / "plan.toml").write_text(base)
        (tmp_path / "more.toml").write_text(text)
        return load_plan(tmp_path / "more.toml", "cpu")

    return load


def test_a_plan_that_extends_another_has_its_parts_and_its_own_come_first(bench, extending, plan_text):
    plan, base = extending(), bench.plan()
    assert (plan.name, plan.title, plan.seeds, plan.sizes) == ("more", "More", base.seeds, base.sizes)
    assert plan.data == base.data
    assert plan.defences == base.defences
    assert plan.reference == base.reference
    cnn = plan.networks["cnn"]
    assert (cnn.shift, cnn.fitting) == (1, base.networks["cnn"].fitting | {"batch_size": 16})
    assert plan.attacks["badnets"] == base.attacks["badnets"]
    assert {cell.attack for cell in plan.cells()} == {"none", "strong"}  # its own grid, not the other's
    assert extending().sha256 == plan.sha256 != extending(base=plan_text.replace("[3]", "[4]")).sha256


@pytest.mark.parametrize(
    ("text", "base", "error", "says"),
    [
        ('extends = "no.toml"', "", InputError, r"the plan .*no\.toml cannot be read: No such file"),
        ("extends = 3", "", OptionError, "expected the name of a plan file to extend, got 3"),
        ('extends = "plan.toml"', 'extends = "more.toml"', OptionError, "that extends none itself"),
    ],
)
def test_what_cannot_be_extended_is_refused(extending, text, base, error, says):
    with pytest.raises(error, match=says):
        extending(text, base)


@pytest.mark.parametrize("profile", ["cpu", "full"])
@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_plans_of_the_project_can_be_run(path, profile):
    plan = load_plan(path, profile)
    assert plan.cells()
    known = {f"{cell.data}/{cell.attack}/{cell.defence}" for cell in plan.cells()}
    stated = {cell for reference in plan.reference for cell in reference.cells}
    assert stated <= known, "a document's figures for a cell that is not in the plan"
