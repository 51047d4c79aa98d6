from __future__ import annotations

import torch

from detrojan.trainers.holding import held_loss


def test_the_held_loss_climbs_below_gamma_and_descends_above():
    labels, index = torch.tensor([0, 1]), torch.arange(2)
    for kind in ("ascent", "flooding"):
        for scale, sign in ((5.0, -1), (0.1, 1)):
            logits = (torch.eye(2) * scale).requires_grad_()
            value = held_loss(kind, 0.5)(logits, labels, index)
            (slope,) = torch.autograd.grad(value, logits)
            # the slope of plain cross entropy at the label's logit is below 0
            assert torch.sign(slope[0, 0]) == -sign
