"""Tensors are paired by name first; by order only where names cannot, and never by chance."""

import pytest

from detrojan.models.matching import match

#: two layers of equal shape, defined in another order than the alphabet's
NET = {
    "second.weight": (4, 4),
    "second.bias": (4,),
    "first.weight": (4, 4),
    "first.bias": (4,),
    "out.weight": (2, 4),
}


def renamed(names, *, prefix="", order=sorted):
    """Return the network's tensors under other layer names, in the order of a file."""
    made = {}
    for name, shape in NET.items():
        owner, _, leaf = name.rpartition(".")
        made[f"{prefix}{names.get(owner, owner)}.{leaf}"] = shape
    return {key: made[key] for key in order(made)}


@pytest.mark.parametrize("order", ["file", "kind", "none"])
@pytest.mark.parametrize("prefix", ["", "model.", "a.b.c."])
def test_names_go_before_order_also_behind_a_prefix(prefix, order):
    keys, by_name, wrong = match(NET, renamed({}, prefix=prefix), order=order)
    assert keys == {name: f"{prefix}{name}" for name in NET}
    assert by_name
    assert wrong == []


def test_the_network_may_have_the_prefix():
    wanted = {f"net.inner.{name}": shape for name, shape in NET.items()}
    keys, by_name, wrong = match(wanted, renamed({}))
    assert keys == {f"net.inner.{name}": name for name in NET}
    assert (by_name, wrong) == (True, [])


def test_other_parts_of_a_file_are_left_out_only_where_that_is_allowed():
    found = {**renamed({}, prefix="classifier."), "generator.deep.weight": (9, 9)}
    assert match(NET, found, whole=False)[0] == {name: f"classifier.{name}" for name in NET}
    assert match(NET, found)[2] != []


def test_two_networks_that_fit_are_ambiguous():
    found = {**renamed({}, prefix="student."), **renamed({}, prefix="teacher.")}
    _, _, (wrong,) = match(NET, found, whole=False)
    assert "2 networks in the file fit" in wrong
    assert "student.second.weight and teacher.second.weight" in wrong


def test_equal_layers_under_other_names_are_ambiguous_without_an_order():
    found = renamed({"second": "alpha", "first": "beta"})
    _, by_name, (wrong,) = match(NET, found, order="none")
    assert not by_name
    assert wrong.startswith("ambiguous match: alpha, beta have the same shape (4,)")
    assert match(NET, found, order="file")[2] != []  # the alphabet puts biases first
    kept = renamed({"second": "alpha", "first": "beta"}, order=list)
    keys, _, wrong = match(NET, kept, order="file")
    assert wrong == []
    assert keys["second.weight"] == "alpha.weight"


def test_numbers_in_names_tell_the_order():
    found = renamed({"second": "layers.1", "first": "layers.2", "out": "end"})
    keys, _, wrong = match(NET, found, order="none")
    assert wrong == []
    assert keys == {
        name: name.replace("second", "layers.1").replace("first", "layers.2").replace("out", "end")
        for name in NET
    }


def test_other_names_of_tensors_are_ambiguous_where_shapes_are_equal():
    wanted = {"a.weight": (3, 2), "b.weight": (5, 3)}
    assert match(wanted, {"x.kernel": (3, 2), "y.kernel": (5, 3)}, order="none")[2] == []
    twice = {"a.weight": (3, 3), "b.weight": (3, 3)}
    _, _, (wrong,) = match(twice, {"x.kernel": (3, 3), "y.kernel": (3, 3)}, order="none")
    assert "ambiguous match" in wrong


def test_a_shape_that_differs_is_named_under_both_names():
    _, by_name, wrong = match(NET, {**renamed({}, prefix="model."), "model.out.weight": (3, 4)})
    assert by_name
    assert wrong == ["expected out.weight (2, 4), got model.out.weight (3, 4)"]


def test_batch_counters_follow_their_norm():
    wanted = {"n.running_var": (3,), "n.num_batches_tracked": ()}
    found = {"m.n.running_var": (3,), "m.n.num_batches_tracked": ()}
    assert match(wanted, found)[0] == {name: f"m.{name}" for name in wanted}
