"""Rejected inputs are kept, and never more than was asked for."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from detrojan.errors import InputError
from detrojan.serve.keeping import SHOWN, Keeper


def add(keeper, number):
    keeper.add(torch.full((1, 4, 4), number / 255), at=1e9 + number, score=0.5, label=1, reason="score")


def test_the_newest_files_stay_and_foreign_ones_are_left_alone(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    for start in (0, 10):  # the second one finds the files of the first
        keeper = Keeper(tmp_path, 5)
        for number in range(start, start + 8):
            add(keeper, number)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 6
    assert names[-1] == "mine.png"
    found = [Image.open(io.BytesIO((tmp_path / name).read_bytes())).getpixel((0, 0)) for name in names[:-1]]
    assert found == [13, 14, 15, 16, 17]


def test_threads_lose_none(tmp_path):
    keeper = Keeper(tmp_path, 500)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: add(keeper, 7), range(200)))
    assert len(list(tmp_path.iterdir())) == 200


def test_memory_holds_few():
    keeper = Keeper(None, 5)
    for number in range(100):
        add(keeper, number)
    assert [int(one.at - 1e9) for one in keeper.latest] == list(range(100 - SHOWN, 100))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot keep inputs"):
        Keeper(tmp_path / "file" / "folder", 5)


def test_a_service_keeps_what_it_rejects_and_answers_where_it_cannot(world, serving, tmp_path):
    folder = tmp_path / "kept"
    with serving(world.guard, keep=folder, keep_most=3) as found:
        assert found.client.infer(world.rejected[:5]).status == 200
        assert found.client.infer(world.clean[:5]).status == 200
        assert len(list(folder.glob("*-score.png"))) == 3
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("in the way")
        assert found.client.infer(world.rejected[:1]).status == 200
        assert [event["event"] for event in found.events].count("not kept") == 1
