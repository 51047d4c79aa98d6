from __future__ import annotations

import pytest
import torch

from detrojan.metrics.head_rows import CLUES, row_clues


def test_the_clues_are_what_they_say():
    rows = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    clues = dict(zip(CLUES, row_clues(rows).tolist(), strict=True))
    assert clues["turned away"] == pytest.approx([0.5, 0.0, 0.5])
    assert clues["sum"] == pytest.approx([3, 1, -1])
    assert clues["largest"] == pytest.approx([3, 1, 0])
    mean = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    assert clues["length"] == pytest.approx([float((row - mean).norm()) for row in rows.double()])


def test_the_scale_of_the_rows_turns_nothing():
    rows = torch.randn(10, 64, generator=torch.Generator().manual_seed(1))
    assert row_clues(3 * rows)[0].tolist() == pytest.approx(row_clues(rows)[0].tolist())
    assert row_clues(3 * rows)[1:].flatten().tolist() == pytest.approx(
        (3 * row_clues(rows)[1:]).flatten().tolist()
    )
