from __future__ import annotations

import torch

from detrojan.trainers.selection import doubted, followers, least_suspicious


def test_doubted_samples_were_hard_at_first_and_are_still():
    ranked = torch.tensor([4, 0, 1, 6, 2, 3, 7, 5, 8, 9])  # lowest loss in the isolation first
    now = torch.tensor([0.5, 0.6, 0.0, 0.7, 0.1, 0.9, 0.2, 0.0, 0.8, 0.3])
    labels = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    # 3, 5 and 8 are high in both lists; 7 and 9 were and are not, 0 and 1 are and were not
    assert doubted(ranked, 0, now, labels).tolist() == [3, 5, 8]
    # the easy label of an isolated sample has its hardest one among them, and never the isolated one
    assert doubted(ranked, 2, now, labels).tolist() == [1, 3, 5, 8]


def test_each_isolated_label_has_its_least_suspicious_samples():
    ranked = torch.tensor([4, 0, 1, 6, 2, 3, 7, 5, 8, 9])
    now = torch.tensor([0.5, 0.6, 0.0, 0.7, 0.1, 0.9, 0.2, 0.0, 0.8, 0.3])
    labels = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    # a quarter of the eight samples of label 0, and one of the two of label 1: the other one is isolated
    assert least_suspicious(ranked, 2, now, labels, 0.25).tolist() == [1, 5, 8]
    assert least_suspicious(ranked, 1, now, labels, 0.25).tolist() == [5, 8]
    assert least_suspicious(ranked, 2, now, labels, 1.0).tolist() == [1, 2, 3, 5, 6, 7, 8, 9]


def test_followers_lost_a_label_that_isolated_samples_lost():
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    before = torch.tensor([0.1, 0.1, 0.1, 2.5, 0.1, 0.1])
    now = torch.tensor([9.0, 0.5, 0.4, 3.0, 9.0, 0.1])
    # 0 is isolated, 2 kept its label, 3 had lost it before, 4 has another one
    assert followers(torch.tensor([0]), labels, before, now, 2.0).tolist() == [1]
    assert followers(torch.tensor([0, 5]), labels, before, now, 2.0).tolist() == [1, 4]


def test_every_label_may_have_its_least_suspicious_samples():
    ranked = torch.tensor([4, 0, 1, 6, 2, 3, 7, 5, 8, 9])
    now = torch.tensor([0.5, 0.6, 0.0, 0.7, 0.1, 0.9, 0.2, 0.0, 0.8, 0.3])
    labels = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    # the isolated sample has the label 0
    assert least_suspicious(ranked, 1, now, labels, 0.25).tolist() == [5, 8]
    assert least_suspicious(ranked, 1, now, labels, 0.25, every=True).tolist() == [1, 5, 8]
