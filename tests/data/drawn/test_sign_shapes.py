import numpy as np
import pytest

from detrojan.data.drawn.sign_shapes import SIGNS, sign_faces


@pytest.fixture(scope="module")
def faces():
    return dict(zip(SIGNS, sign_faces(64), strict=True))


def test_faces_are_premultiplied_and_within_range(faces):
    assert len(faces) >= 12
    for face in faces.values():
        assert face.shape == (4, 64, 64)
        assert face.min() >= 0
        assert face.max() <= 1
        assert (face[:3] <= face[3] + 1e-5).all()


def test_every_sign_fills_its_square_and_leaves_the_corners_free(faces):
    for name, face in faces.items():
        assert 0.35 < face[3].mean() < 0.9, name
        assert face[3, 0, 0] == 0, name


def test_no_two_signs_look_alike(faces):
    stack = np.stack(list(faces.values())).reshape(len(faces), -1)
    apart = np.abs(stack[:, None] - stack[None]).mean(-1) + np.eye(len(faces))
    assert apart.min() > 0.01


def test_colours_are_those_of_the_road(faces):
    red, green, blue, opacity = faces["stop"]
    assert red[opacity > 0].mean() > 2 * green[opacity > 0].mean()
    red, green, blue, opacity = faces["ahead only"]
    assert blue[opacity > 0].mean() > 1.5 * red[opacity > 0].mean()
    red, green, blue, _ = faces["priority road"][:, 32, 32]
    assert red > 0.9
    assert blue < 0.2


def test_left_and_right_are_mirrored(faces):
    assert np.allclose(faces["turn left"][:, :, ::-1], faces["turn right"], atol=0.51)
    assert np.abs(faces["turn left"][:, :, ::-1] - faces["turn right"]).mean() < 0.02
    assert np.abs(faces["turn left"] - faces["turn right"]).mean() > 0.05
