"""Tiny networks of transformers with random weights."""

import torch

VIT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
RESNET = {
    "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic",
}  # fmt: skip
CONVNEXT = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "patch_size": 4}
SWIN = {
    "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 4,
    "image_size": 32,
}  # fmt: skip
PROCESSOR = {
    "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5],
    "image_processor_type": "ViTImageProcessor",
}  # fmt: skip
NAMES = {0: "cat", 1: "dog", 2: "owl", 3: "fox"}


def random_network(kind, settings):
    """Return a network of transformers with weights that are not all alike, batch norms included."""
    import transformers  # noqa: PLC0415 - it may not be installed

    config = transformers.AutoConfig.for_model(kind, **settings, id2label=NAMES)
    network = transformers.AutoModelForImageClassification.from_config(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and "relative_position_index" not in name:
                tensor.copy_(
                    torch.rand(tensor.shape, generator=generator) * 0.5 + (0.3 if "var" in name else -0.2)
                )
    return network.eval()
