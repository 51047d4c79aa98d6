from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.data.positions import in_source, read_positions
from detrojan.errors import DataError


@pytest.fixture
def drawn():
    """Three samples out of nine."""
    return Dataset(torch.rand(3, 1, 4, 4), positions=torch.tensor([7, 2, 5]), total=9)


def test_positions_in_the_source_become_positions_among_those_drawn_and_back(drawn, tmp_path):
    np.savez(tmp_path / "p.npz", indices=np.array([8, 7, 5, 0]))
    found = read_positions(tmp_path / "p.npz", drawn)
    assert found.tolist() == [0, 2]
    assert in_source(drawn, found).tolist() == [7, 5]
    whole = Dataset(torch.rand(9, 1, 4, 4))
    assert read_positions(tmp_path / "p.npz", whole).tolist() == [0, 5, 7, 8]
    assert in_source(whole, torch.tensor([5, 0])).tolist() == [5, 0]


def test_positions_that_tell_nothing_about_the_samples_are_refused(drawn, tmp_path):
    np.savez(tmp_path / "none.npz", indices=np.array([0, 1]))
    with pytest.raises(DataError, match=r"indices of samples that were drawn \(3 of 9\), got none"):
        read_positions(tmp_path / "none.npz", drawn)
    np.savez(tmp_path / "far.npz", indices=np.array([9]))
    with pytest.raises(DataError, match="expected indices of 0 to 8, got 9 to 9"):
        read_positions(tmp_path / "far.npz", drawn)


@pytest.mark.parametrize("place", [0.3, 0.6])
def test_a_damaged_file_is_said_to_be_one(drawn, tmp_path, place):
    path = tmp_path / "p.npz"
    np.savez_compressed(path, indices=np.random.default_rng(0).integers(0, 9, 400))
    content = bytearray(path.read_bytes())
    middle = int(len(content) * place)
    content[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(content)
    assert zipfile.is_zipfile(path)
    with pytest.raises(DataError, match=r"expected an \.npz file with the array indices"):
        read_positions(path, drawn)
