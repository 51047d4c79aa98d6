from __future__ import annotations

import numpy as np
import pytest
import torch

from detrojan.errors import EndpointError, ModelError, OptionError
from detrojan.models.endpoint import open_endpoint
from detrojan.models.transport import Patience
from v2_server import Served, serving

QUICK = Patience(timeout=5.0, tries=2, pause=0.01)
WEIGHTS = np.random.default_rng(0).normal(size=(3 * 4 * 5, 6)).astype(np.float32)


def probabilities(images):
    scores = images.reshape(len(images), -1) @ WEIGHTS
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


def opened(url, **more):
    return open_endpoint(url, "signs", patience=QUICK, **more)


@pytest.fixture
def images():
    return torch.rand(7, 3, 4, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("binary", [True, False])
def test_a_server_answers_as_the_model_itself(images, binary):
    served = Served(probabilities, (-1, 3, 4, 5), binary=binary)
    with serving(served) as url:
        model = opened(url)
        assert (model.input_shape, model.num_classes) == ((3, 4, 5), 6)
        found = model.probabilities(images)
    assert torch.allclose(found, torch.from_numpy(probabilities(images.numpy())), atol=1e-5)
    assert any("softmax" in note for note in model.origin.notes)
    assert bool(served.binary_seen) == binary


def test_the_last_side_of_three_is_the_colours_and_bytes_are_whole_numbers(images):
    seen = []

    def answer(given):
        seen.append(given)
        return given.astype(np.float32).transpose(0, 3, 1, 2).reshape(len(given), -1) @ WEIGHTS

    with serving(Served(answer, (-1, 4, 5, 3), datatype="UINT8", binary=True)) as url:
        model = opened(url)
        found = model.all_logits(images)
    whole = (images * 255).round()
    assert seen[-1].dtype == np.uint8
    assert torch.allclose(found, torch.from_numpy(whole.numpy().reshape(7, -1) @ WEIGHTS), rtol=1e-4)


def test_a_fixed_number_of_images_is_filled_up_and_no_number_means_one(images):
    for shape, counts in (((4, 3, 4, 5), {4}), ((3, 4, 5), {3})):
        served = Served(lambda given: given.reshape(-1, 60) @ WEIGHTS, shape)
        with serving(served) as url:
            found = opened(url).all_logits(images)
        assert set(served.seen) == counts
        assert torch.allclose(found, torch.from_numpy(images.numpy().reshape(7, -1) @ WEIGHTS), rtol=1e-4)


def test_a_server_that_refuses_large_requests_gets_smaller_ones(images):
    served = Served(lambda given: given.reshape(-1, 60) @ WEIGHTS, (-1, 3, 4, 5), most=2)
    with serving(served) as url:
        assert opened(url).all_logits(images).shape == (7, 6)
    assert served.seen[-1] <= 2


def test_a_busy_server_is_asked_again_and_a_broken_one_named(images):
    served = Served(probabilities, (-1, 3, 4, 5), status=[503])
    with serving(served) as url:
        model = opened(url)
        served.status[:] = [500] * 9
        with pytest.raises(
            ModelError, match=r"signs/infer: expected the status 200, got 500: .*out of memory.*\(tried 2"
        ):
            model.answers(images)
        served.status[:] = [400]
        with pytest.raises(ModelError, match=r"got 400: .*out of memory\"}$"):
            model.answers(images)


def test_nobody_there_and_no_such_model():
    with (
        serving(Served(probabilities, (-1, 3, 4, 5))) as url,
        pytest.raises(ModelError, match=r"got 404: .*unknown model"),
    ):
        open_endpoint(url, "other", patience=QUICK)
    with pytest.raises(ModelError, match=r"v2/models/signs: no answer: .*refused.* \(tried 2 times\)"):
        opened(url)
    with pytest.raises(ModelError, match=r"expected a URL http:// or https://, got 'ftp:"):
        opened("ftp://there")


def test_a_slow_server_is_not_waited_for(images):
    served = Served(probabilities, (-1, 3, 4, 5))
    with serving(served) as url:
        model = open_endpoint(url, "signs", patience=Patience(timeout=0.3, tries=2, pause=0.01))
        served.delay = 1.0
        with pytest.raises(ModelError, match=r"no answer within 0\.3 s \(tried 2 times\)"):
            model.answers(images)


@pytest.mark.parametrize(
    ("reshape", "said"),
    [
        (
            lambda scores: scores[:-1],
            r"expected 7 rows of the output 'scores', one per image, got shape \(6, 6\)",
        ),
        (lambda scores: scores[:, :5], r"expected scores of shape \(N, 6,\) as before, got \(N, 5,\)"),
        (lambda scores: scores * np.nan, r"expected finite scores, got 42 NaN or infinite of 42 values"),
    ],
    ids=["wrong shape", "wrong class count", "NaN"],
)
def test_what_is_no_answer_is_refused(images, reshape, said):
    served = Served(probabilities, (-1, 3, 4, 5), binary=True)
    with serving(served) as url:
        model = opened(url)
        served.reshape = reshape
        with pytest.raises(ModelError, match=said):
            model.answers(images)


def test_what_the_metadata_leave_open_is_asked_for():
    with serving(Served(probabilities, (-1, 3, -1, -1))) as url:
        with pytest.raises(
            ModelError, match=r"expected --input-shape CxHxW.*images \(FP32 \[-1, 3, -1, -1\]\)"
        ):
            opened(url)
        assert opened(url, input_shape=(3, 4, 5)).num_classes == 6
        with pytest.raises(OptionError, match=r"expected one input out of images .*, got 'pixels'"):
            opened(url, input_shape=(3, 4, 5), input_name="pixels")
    with serving(Served(probabilities, (-1, 3, 4, 5), outputs=("a", "b"))) as url:
        with pytest.raises(OptionError, match=r"expected one output out of a .*, b .*--output NAME"):
            opened(url)
        assert opened(url, output="b").num_classes == 6
    with (
        serving(Served(probabilities, (-1, 16))) as url,
        pytest.raises(ModelError, match="an input of images"),
    ):
        opened(url)


def test_a_token_is_sent_and_a_redirect_not_followed(images, monkeypatch):
    served = Served(probabilities, (-1, 3, 4, 5), token="of-the-server")
    with serving(served) as url:
        with pytest.raises(EndpointError, match="got 401"):
            opened(url)
        assert opened(url, token="of-the-server").answers(images).shape == (7,)
        monkeypatch.setenv("DETROJAN_UPSTREAM_TOKEN", "of-the-server")
        model = opened(url)
        served.moved = f"{url}/v2/models/signs"
        with pytest.raises(EndpointError, match="got 307"):
            model.answers(images)
        monkeypatch.setenv("DETROJAN_UPSTREAM_TOKEN", "two\nlines")
        with pytest.raises(OptionError, match="expected a token of printable ASCII"):
            opened(url)
