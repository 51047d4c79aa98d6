import numpy as np
import pytest
import torch
from PIL import Image

from detrojan.data.reading import data_digest, read_data
from detrojan.errors import DataError


def picture(path, value, mode="RGB", size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color=(value,) * 3 if mode == "RGB" else value).save(path)


@pytest.fixture
def folder(tmp_path):
    for place, name in enumerate(["cat", "ant", "bee"]):
        for number in range(3):
            picture(tmp_path / "zoo" / name / f"{number}.png", 80 * place + number)
    return tmp_path / "zoo"


def test_a_folder_per_class_gives_labels_in_sorted_order(folder):
    data = read_data(folder)
    assert data.class_names == ("ant", "bee", "cat")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (data.images[:, 0, 0, 0] * 255).round().tolist() == [80, 81, 82, 160, 161, 162, 0, 1, 2]
    assert data.shape == (3, 5, 6)


def test_a_class_without_pictures_keeps_its_label(folder):
    (folder / "beaver").mkdir()
    assert read_data(folder).class_names == ("ant", "beaver", "bee", "cat")
    assert set(read_data(folder).labels.tolist()) == {0, 2, 3}


def test_a_flat_folder_has_no_labels(folder):
    data = read_data(folder / "cat")
    assert data.labels is None
    assert len(data) == 3


def test_other_files_and_hidden_ones_are_left_out_with_a_note(folder):
    (folder / "cat" / "notes.txt").write_text("hello")
    (folder / "cat" / ".DS_Store").write_text("hello")
    (folder / ".cache").mkdir()
    (folder / "cat" / "Thumbs.db").write_text("hello")
    for name in (".ipynb_checkpoints", "__MACOSX"):
        picture(folder / "cat" / name / "0.png", 3)
        picture(folder / name / "0.png", 3)
    picture(folder / "cat" / ".0.png", 3)
    data = read_data(folder)
    assert len(data) == 9
    assert data.class_names == ("ant", "bee", "cat")
    assert "1 files that are not pictures were left out" in data.notes
    assert "1 hidden files were left out" in data.notes
    assert data.skipped == (
        f"{folder / 'cat' / 'notes.txt'}: not a picture",
        f"{folder / 'cat' / '.0.png'}: hidden",
    )


def test_folders_called_train_and_test_are_splits(folder, tmp_path):
    root = tmp_path / "both"
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for name in ("ant", "bee"):
            picture(root / split / name / "0.png", 9 if split == "train" else 200)
    assert (read_data(root, split="train").images * 255).round().unique().tolist() == [9]
    data = read_data(root)
    assert (data.images * 255).round().unique().tolist() == [200]
    assert data.class_names == ("ant", "bee")
    with pytest.raises(DataError, match="expected a split val, got only test, train"):
        read_data(root, split="val")
    with pytest.raises(DataError, match="expected a folder train, got none"):
        read_data(folder, split="train")


def test_folders_that_are_numbers_are_sorted_by_value_and_that_is_told(tmp_path):
    for name in ("0", "1", "2", "10"):
        picture(tmp_path / "n" / name / "a.png", 10 * int(name))
    data = read_data(tmp_path / "n")
    assert data.class_names == ("0", "1", "2", "10")
    assert data.named
    assert (data.images[:, 0, 0, 0] * 255).round().tolist() == [0, 10, 20, 100]
    assert any("label 2 is the folder '2', not '10'" in note for note in data.notes)


def test_pictures_beside_class_folders_are_refused(folder):
    picture(folder / "stray.png", 1)
    with pytest.raises(DataError, match="got 1 pictures beside 3 folders"):
        read_data(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected pictures \(.*\.png.*\), got none"):
        read_data(tmp_path)


def test_different_sizes_need_a_size(folder):
    picture(folder / "cat" / "big.png", 7, size=(12, 10))
    with pytest.raises(DataError, match="images of one size, got 5x6 and 10x12; --resize HxW brings"):
        read_data(folder)
    data = read_data(folder, resize=(4, 4))
    assert data.shape == (3, 4, 4)
    assert data.notes[-1] == "resized from 2 different sizes to 4x4, bilinear"


def test_grey_pictures_stay_grey_and_mixed_ones_are_told(folder, caplog):
    picture(folder / "cat" / "grey.png", 7, mode="L")
    data = read_data(folder)
    assert data.shape[0] == 3
    note = "warning: 1 grey images among 10 were repeated into 3 channels"
    assert note in data.notes
    assert "1 grey images among 10" in caplog.text
    assert read_data(folder / "cat" / "grey.png").shape == (1, 5, 6)


def test_a_damaged_picture_is_skipped_counted_and_listed(folder):
    path = folder / "bee" / "1.png"
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:80])
    whole = read_data(folder)
    assert (whole.images[:, 0, 0, 0] * 255).round().tolist() == [80, 81, 82, 160, 162, 0, 1, 2]
    assert whole.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert whole.positions.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert str(path) not in whole.files
    assert len(whole.skipped) == 1
    assert "bee/1.png: the picture is truncated or damaged" in whole.skipped[0]
    assert any(note.startswith("warning: 1 of 9 pictures cannot be read and were") for note in whole.notes)
    with pytest.raises(DataError, match=r"bee/1\.png: the picture is truncated or damaged"):
        read_data(folder, strict=True)
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bee/1\.png: expected a picture"):
        read_data(folder, strict=True)
    with pytest.raises(DataError, match=r"bee/1\.png: expected a picture"):
        read_data([path])


def test_single_files_and_lists_have_no_labels_and_keep_their_order(folder):
    paths = [folder / "bee" / "2.png", folder / "ant" / "0.png"]
    data = read_data(paths)
    assert (data.images[:, 0, 0, 0] * 255).round().tolist() == [162, 80]
    assert data.labels is None
    assert len(read_data(str(paths[0]))) == 1
    with pytest.raises(DataError, match="expected at least one picture file, got none"):
        read_data([])
    with pytest.raises(DataError, match=r"there is no file or folder .*missing\.png"):
        read_data([folder / "missing.png"])


def test_in_a_list_a_folder_stands_for_its_pictures(folder, tmp_path):
    single = folder / "bee" / "2.png"
    data = read_data([single, folder])
    inside = sorted(folder.rglob("*.png"))
    assert data.files == (str(single), *map(str, inside))
    assert data.labels is None
    assert data.sha256 == data_digest([single, folder]) != data_digest([single])
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none: expected pictures \(.*\), got none"):
        read_data([tmp_path / "none"])


def test_the_digest_covers_names_and_contents(folder):
    before = read_data(folder).sha256
    assert read_data(folder, limit=2).sha256 == before
    (folder / "ant" / "0.png").rename(folder / "ant" / "7.png")
    renamed = read_data(folder).sha256
    picture(folder / "ant" / "7.png", 33)
    assert len({before, renamed, read_data(folder).sha256}) == 3


def test_a_limit_decodes_only_what_is_drawn(folder):
    for number in range(40):
        (folder / "ant" / f"bad{number}.png").write_bytes(b"no picture")
    assert len(read_data(folder).skipped) == 40
    for seed in range(200):
        order = torch.randperm(49, generator=torch.Generator().manual_seed(seed))[:1]
        if order.item() >= 43:
            data = read_data(folder, limit=1, generator=torch.Generator().manual_seed(seed))
            assert len(data) == 1
            assert data.skipped == ()
            return
    pytest.fail("no seed draws a good picture")
