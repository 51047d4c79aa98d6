import pytest

from detrojan.benchmark.guard_tables import FEWEST, figure_tables, side_by_side
from detrojan.benchmark.tables import tables

GUARDS = ("strip", "ted", "auto", "ibd_psc")


def row(attack, defence, seed=0, **figures):
    return {
        "plan": {"name": "p", "title": "Guards"},
        "profile": "cpu",
        "data": "cifar10",
        "network": "wrn",
        "attack": attack,
        "defence": defence,
        "seed": seed,
        "room": "" if defence == "none" else "guards",
        "status": "done",
        "figures": figures,
        "twin": {"ca": 0.9},
    }


def judged(attack, guard, auroc, seed=0, frr=0.01):
    return row(attack, guard, seed, frr=frr, far=1 - auroc, auroc=auroc, clean_inputs=600)


@pytest.fixture
def rows():
    found = [row("none", "none", ca=0.7)]
    found += [row("none", guard, frr=0.02, clean_inputs=600) for guard in GUARDS]
    for attack, aurocs in {"badnets": (1.0, 0.9, 0.99, 1.0), "composite": (0.5, 0.7, 0.91, 0.6)}.items():
        found += [row(attack, "none", ca=0.7, asr=1.0)]
        found += [judged(attack, guard, value) for guard, value in zip(GUARDS, aurocs, strict=True)]
    return found


def by_name(lines):
    return {line[0]: line[1:] for line in lines}


def test_each_figure_of_several_guards_has_its_own_table(rows):
    whole, auroc, frr, far = tables(rows)
    assert whole.columns == ("attack", "clean twin", "none")
    assert not any(note.startswith("Guards:") for note in whole.notes)
    assert auroc.columns == frr.columns == far.columns == ("attack", *GUARDS)
    assert auroc.title.startswith("AUROC: Guards: cifar10")
    found = by_name(auroc.rows)
    assert "none" not in found, "nothing is stamped there"
    assert found["composite"] == ("50.0", "70.0", "91.0", "60.0")
    assert found["average"] == ("75.0", "80.0", "95.0", "80.0")
    assert found["worst"] == ("50.0", "70.0", "91.0", "60.0")
    assert by_name(far.rows)["worst"] == ("50.0", "30.0", "9.0", "40.0")


def test_a_false_rejection_rate_stands_with_its_interval_of_one_seed(rows):
    _, _, frr, _ = tables(rows)
    found = by_name(frr.rows)
    assert found["none"][0] == "2.00 (1.0 to 3.5)"
    assert found["badnets"][0] == "1.00 (0.4 to 2.2)"
    assert "worst" not in found
    again = [*rows, judged("badnets", "strip", 0.9, seed=1, frr=0.03)]
    assert by_name(tables(again)[2].rows)["badnets"][0] == "2.00±1.41"


def test_an_average_over_some_of_the_attacks_is_not_given(rows):
    some = [one for one in rows if (one["attack"], one["defence"]) != ("composite", "ted")]
    found = by_name(tables(some)[1].rows)
    assert found["composite"] == ("50.0", "", "91.0", "60.0")
    assert found["average"] == ("75.0", "", "95.0", "80.0")


def test_a_network_counts_once_however_many_seeds_it_has(rows):
    again = [*rows, judged("badnets", "strip", 0.9, seed=1)]
    assert by_name(figure_tables(again, GUARDS)[0].rows)["average"][0] == "72.5"


def test_few_guards_stand_in_one_table(rows):
    few = [one for one in rows if one["defence"] in {"none", *GUARDS[: FEWEST - 1]}]
    assert side_by_side(few) == []
    (table,) = tables(few)
    assert table.columns[2:] == ("none", *GUARDS[: FEWEST - 1])
