"""Settings outside their range are refused."""

import pytest

from detrojan.errors import InputError, OptionError
from detrojan.serve.options import ServeOptions, read_token


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"mode": "pass"}, "expected mode out of annotate, block, shadow, got 'pass'"),
        ({"blocked": "404"}, "expected blocked out of error, class"),
        ({"batch": 0}, "expected batch of 1 or more, got 0"),
        ({"body": 0}, "expected body above 0"),
        ({"delay": float("nan")}, "expected delay of 0 or more"),
        ({"alarm_every": 100}, "expected alarm_every above 100"),
        ({"name": "a/b"}, "expected name of letters, digits, dots and dashes"),
        ({"token": "short"}, "expected a token of 8 to 500"),
        ({"token": "with space"}, "expected a token of 8 to 500"),
    ],
)
def test_a_wrong_value_is_refused(changed, says):
    with pytest.raises(OptionError, match=says):
        ServeOptions(guard="", **changed)


def test_only_a_loopback_address_limits_the_hosts_by_itself():
    assert ServeOptions(guard="").answers_to == {"localhost", "127.0.0.1", "::1"}
    assert ServeOptions(guard="", host="0.0.0.0").answers_to is None
    assert "guard.example" in ServeOptions(guard="", host="0.0.0.0", hosts=("Guard.example",)).answers_to
    assert ServeOptions(guard="", hosts=("*",)).answers_to is None


def test_a_token_comes_out_of_a_file(tmp_path):
    (tmp_path / "token").write_text(" long-enough\n")
    assert read_token(tmp_path / "token") == "long-enough"
    with pytest.raises(InputError, match="expected a file with a token"):
        read_token(tmp_path / "none")
