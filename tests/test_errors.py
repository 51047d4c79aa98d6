from __future__ import annotations

import inspect

import pytest

from detrojan import errors

TREE = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, Exception) and error.__module__ == errors.__name__
]


def drawn_tree() -> dict[str, str]:
    """Parent of each error, as the docstring of the module draws it."""
    parents: list[tuple[int, str]] = []
    found = {}
    for line in inspect.cleandoc(errors.__doc__).splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if not name.endswith("Error"):
            continue
        depth = line.index(name)
        while parents and parents[-1][0] >= depth:
            parents.pop()
        found[name] = parents[-1][1] if parents else "Exception"
        parents.append((depth, name))
    return found


def test_the_drawing_in_the_docstring_is_the_tree():
    assert drawn_tree() == {error.__name__: error.__bases__[0].__name__ for error in TREE}


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_every_error_is_ours_documented_and_has_an_exit_code(error):
    assert issubclass(error, errors.DetrojanError)
    assert error.__doc__
    own = {errors.BackdoorFoundError: 1, errors.OptionError: 4}
    assert error.exit_code == own.get(error, 2)


def test_a_missing_extra_names_the_exact_installation_command():
    error = errors.MissingExtraError("keras", "keras")
    assert str(error) == 'keras is not installed; install it with: pip install "detrojan[keras]"'
    assert (error.library, error.extra) == ("keras", "keras")
