"""Machine lines have one form."""

import pytest

from icemaker.log import machine_line


def test_machine_line_is_pairs_of_plain_decimals() -> None:
    """Numbers have no exponent, and what is not finite is left out."""
    values = {
        "epoch": 3,
        "a": 0.5,
        "b": 0.00002,
        "c": float("nan"),
        "d": float("inf"),
        "e": None,
        "f": 0.0,
        "g": 12345.678,
    }
    assert machine_line("metrics", values) == "metrics epoch=3 a=0.5000 b=0.00002 f=0.0000 g=12345.6780"


def test_text_with_white_space_is_our_own_bug() -> None:
    """A value with a space would break the form of the line."""
    with pytest.raises(ValueError, match="cannot hold the value 'a b'"):
        machine_line("run", {"name": "a b"})
