import pytest
import torch

from detrojan.data.equalise import equalise


def dim_images(channels=3, count=4):
    random = torch.Generator().manual_seed(0)
    return 0.3 + 0.1 * torch.rand(count, channels, 32, 32, generator=random)


def luma(images):
    return (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)


def test_a_dim_grey_image_is_spread_over_the_whole_range():
    flat = equalise(dim_images(1)).flatten(1)
    assert torch.allclose(flat.amin(1), torch.zeros(4))
    assert torch.allclose(flat.amax(1), torch.ones(4))
    # even spread: the quartiles of a uniform distribution
    quartiles = flat.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
    assert quartiles.mean(1).tolist() == pytest.approx([0.25, 0.5, 0.75], abs=0.03)


def test_order_of_brightness_and_hue_are_kept():
    random = torch.Generator().manual_seed(1)
    brightness = 0.2 + 0.1 * torch.rand(1, 1, 16, 16, generator=random)
    images = brightness * torch.tensor([1.0, 0.9, 0.8])[:, None, None]
    result = equalise(images)
    assert luma(result).std() > 4 * luma(images).std()
    order = luma(images).flatten().argsort()
    assert (luma(result).flatten()[order].diff() >= -0.02).all()
    unclipped = (result.amax(1) < 0.99) & (result.amax(1) > 0.1)
    hue = (result[:, 2] / result[:, 0])[unclipped]
    assert torch.allclose(hue, torch.full_like(hue, 0.8), atol=1e-4)


def test_each_image_is_judged_by_itself_and_the_input_is_unchanged():
    images = dim_images()
    before = images.clone()
    together = equalise(images)
    assert torch.equal(images, before)
    assert torch.equal(together, torch.cat([equalise(image[None]) for image in images]))


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_even_image_stays_as_it_is(value, channels):
    images = torch.full((2, channels, 8, 8), value)
    assert torch.equal(equalise(images), images)


def test_lighting_is_mostly_undone():
    images = dim_images() * 2
    darker = images * 0.5
    apart = (equalise(images) - equalise(darker)).abs().mean()
    assert apart < 0.1 * (images - darker).abs().mean()


def test_gradients_pass_with_the_factor_of_each_pixel():
    images = dim_images(1).requires_grad_()
    result = equalise(images)
    result.sum().backward()
    inside = (result > 0.01) & (result < 0.99)
    assert torch.allclose(images.grad[inside], (result / images)[inside], atol=1e-4)


def test_no_images_give_no_images():
    assert equalise(torch.zeros(0, 3, 8, 8)).shape == (0, 3, 8, 8)
