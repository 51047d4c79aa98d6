"""Which range of images a network's first layers expect."""

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (lambda k: [k.Rescaling(1 / 255)], (0, 255)),
        (lambda k: [k.RandomFlip(), k.Rescaling(1 / 127.5, -1)], (0, 255)),
        (lambda k: [k.Rescaling(1 / 255), k.Normalization(mean=[0.4] * 3, variance=[0.05] * 3)], (0, 255)),
        (lambda k: [k.Normalization(mean=120.0, variance=3600.0)], (0, 255)),
        (lambda k: [k.Normalization(mean=0.4, variance=0.05)], (0, 1)),
        (lambda k: [k.Rescaling(2.0, -1)], (0, 1)),
        (lambda k: [k.Rescaling(0.5, 0.5)], (-1, 1)),
        (lambda k: [k.ReLU(), k.Rescaling(1 / 255)], (0, 1)),
        (lambda k: [], (0, 1)),
    ],
)
def test_the_range_of_images_is_told_by_the_first_layers(keras, as_keras, layers, expected):
    k = keras.layers
    model = keras.Sequential([keras.Input((6, 6, 3)), *layers(k), k.Conv2D(2, 3), k.Flatten(), k.Dense(3)])
    preprocessing = as_keras(model, near=1e-4).preprocessing
    assert (preprocessing.low, preprocessing.high) == expected
