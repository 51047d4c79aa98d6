import io

import numpy as np
import pytest
from PIL import Image

import strange_parsers
from detrojan.data import decoding_apart
from detrojan.data.decoding import decode
from detrojan.data.decoding_apart import decoded, read_with_opacity, stated_sizes
from detrojan.data.source import Encoded
from detrojan.errors import DataError, UnsafeFileError


def content(seed, size=(7, 5)):
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def pictures(*contents):
    return iter([(place, Encoded(f"n{place}", one)) for place, one in enumerate(contents)])


def test_pictures_come_out_as_they_are_decoded_here(tmp_path):
    contents = [content(seed) for seed in range(4)]
    file = tmp_path / "f.png"
    file.write_bytes(contents[1])
    found = dict(decoded(pictures(contents[0], file, *contents[2:]), None))
    assert sorted(found) == [0, 1, 2, 3]
    for place, one in enumerate(contents):
        wanted = decode(io.BytesIO(one), "f")
        assert (found[place].pixels == wanted.pixels).all()
        assert found[place].size == wanted.size


def test_a_jpeg_that_is_made_smaller_is_decoded_smaller():
    stream = io.BytesIO()
    Image.new("RGB", (800, 640), (10, 20, 30)).save(stream, "JPEG")
    ((_, one),) = decoded(pictures(stream.getvalue()), (32, 32))
    assert one.size == (640, 800)
    assert one.pixels.shape[0] <= 160


def test_what_is_broken_is_named_in_its_place():
    found = dict(decoded(pictures(content(1), content(2)[:60], b"", content(3)), None))
    assert [isinstance(found[place], DataError) for place in range(4)] == [False, True, True, False]
    assert "n1" in str(found[1])
    assert "n2" in str(found[2])


@pytest.mark.parametrize("limit", ["_MOST", "_MOST_BYTES"])
def test_no_picture_is_lost_between_two_processes(monkeypatch, limit):
    monkeypatch.setattr(decoding_apart, limit, 2)
    contents = [content(seed) for seed in range(5)]
    found = list(decoded(pictures(*contents), None))
    assert [place for place, _ in found] == list(range(5))
    assert all((one.pixels == decode(io.BytesIO(contents[at]), "f").pixels).all() for at, one in found)


def test_a_process_that_has_many_pixels_hands_them_back_before_it_goes_on():
    big = content(1, (3000, 2500))  # 22.5 MB of pixels
    found = decoding_apart.parse_decoded(None, [("n", None, big)] * 5, None)
    assert len(found) == 3
    assert [place for place, _ in decoded(pictures(*[big] * 5), None)] == list(range(5))


def test_a_picture_that_ends_its_process_takes_no_other_with_it():
    contents = [content(1), b"dies", content(2)]
    found = dict(decoding_apart._apart(pictures(*contents), strange_parsers.dies_on_a_picture))
    assert (found[0], found[2]) == (0, 0)
    assert isinstance(found[1], DataError)
    assert str(found[1]).startswith("n1: damaged, or made to break its reader")


def test_stated_sizes_are_of_those_that_state_one():
    assert stated_sizes(pictures(content(1), content(2, (9, 4)), b"no")) == {(5, 7), (4, 9)}


def test_a_link_that_leads_out_is_refused(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out.png"
    inside.mkdir()
    outside.write_bytes(content(1))
    (inside / "f.png").symlink_to(outside)
    given = iter([(0, Encoded("f", inside / "f.png", inside))])
    with pytest.raises(UnsafeFileError, match="a link that leads out of it"):
        list(decoded(given, None))


@pytest.mark.parametrize(("channels", "size", "shape"), [(3, None, (4, 5, 7)), (1, (2, 3), (2, 2, 3))])
def test_a_picture_with_opacity(tmp_path, channels, size, shape):
    path = tmp_path / "f.png"
    Image.new("RGBA", (7, 5), (255, 255, 255, 51)).save(path)
    found = read_with_opacity(path, channels, size)
    assert found.shape == shape
    assert found[0].min() == 1
    np.testing.assert_allclose(found[-1], 0.2)


def test_a_picture_with_opacity_that_is_damaged_is_named(tmp_path):
    path = tmp_path / "f.png"
    path.write_bytes(content(1)[:50])
    with pytest.raises(DataError, match=r"f\.png"):
        read_with_opacity(path, 3)
