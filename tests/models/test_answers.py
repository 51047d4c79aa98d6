"""What networks answer, and the logits that are taken out of it."""

from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError, OptionError
from detrojan.models.answers import Answering, probes
from detrojan.models.classifier import Classifier, Origin
from detrojan.search.rewriting import rewritten
from detrojan.store import digest

SHAPE = (3, 8, 8)
Pair = namedtuple("Pair", ["features", "logits"])  # noqa: PYI024 - as old networks have them


class Output(OrderedDict):
    """An answer as Hugging Face's models give it: a mapping with attributes."""

    @property
    def logits(self):
        return self["logits"]


class Plain:
    """An answer that is an object of its own."""

    def __init__(self, logits):
        self.loss, self.logits = None, logits


class Net(nn.Module):
    """A small network; `answer` makes its answer of logits (N, K) and features (N, 12)."""

    def __init__(self, answer=lambda logits, _features: logits, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(216, 12)
        self.head = nn.Linear(12, classes)
        self.answer = answer

    def forward(self, images):
        features = self.hidden(self.norm(self.conv(images)).relu().flatten(1)).relu()
        return self.answer(self.head(features), features)


def made(answer, classes=4, *, sure=1.0):
    """Return a network, and the same one that answers plain logits."""
    torch.manual_seed(3)
    network, plain = Net(answer, classes), Net(classes=classes)
    with torch.no_grad():
        network.head.weight *= sure
    plain.load_state_dict(network.state_dict())
    return network, plain.eval()


@pytest.fixture
def batch(images):
    return images(5, *SHAPE)


EXACT = [
    ("tuple", lambda z, f: (z, f)),
    ("list of a tuple", lambda z, f: [(z, f)]),
    ("named tuple", lambda z, f: Pair(f, z)),
    ("dict with logits", lambda z, f: {"features": f, "logits": z}),
    ("dict with out", lambda z, f: {"aux": f, "out": z}),
    ("dict with one 2-d tensor", lambda z, f: {"map": f[:, :, None, None].expand(-1, -1, 2, 2), "y": z}),
    ("mapping", lambda z, f: Output(logits=z, hidden_states=(f,))),
    ("object", lambda z, _f: Plain(z)),
    ("nested", lambda z, f: {"result": {"logits": z}, "features": f}),
    ("four dimensions", lambda z, _f: z[:, :, None, None]),
    ("softmax", lambda z, _f: z.softmax(1)),
    ("softmax in a tuple", lambda z, f: (torch.softmax(z, dim=-1), f)),
    ("softmax of four dimensions", lambda z, _f: nn.functional.softmax(z[:, :, None, None], 1)),
    ("a sigmoid per class", lambda z, _f: torch.sigmoid(z)),
]


@pytest.mark.parametrize("answer", [pytest.param(f, id=name) for name, f in EXACT])
def test_logits_are_taken_out_of_any_answer(answer, batch):
    network, plain = made(answer)
    model = Classifier(network, SHAPE)
    torch.testing.assert_close(model.all_logits(batch), plain(batch).detach())
    assert model.num_classes == 4
    assert model.head == "head"


def test_a_network_that_answers_logits_is_left_alone():
    network, _ = made(lambda z, _f: z)
    model = Classifier(network, SHAPE)
    assert model.network is network
    assert model.origin.notes == ()


LOGARITHMS = [
    ("softmax by hand", lambda z, _f: z.exp() / z.exp().sum(1, keepdim=True), "sum to 1"),
    ("log-softmax", lambda z, _f: z.log_softmax(1), "log-softmax"),
    ("log-softmax by hand", lambda z, _f: z - z.logsumexp(1, keepdim=True), "log-softmax"),
]


@pytest.mark.parametrize(("answer", "said"), [pytest.param(f, said, id=name) for name, f, said in LOGARITHMS])
def test_probabilities_are_told_by_their_values(answer, said, batch):
    network, plain = made(answer, sure=20)
    model = Classifier(network, SHAPE)
    torch.testing.assert_close(model.probabilities(batch), plain(batch).softmax(1).detach())
    (note,) = model.origin.notes
    assert said in note


def test_slopes_of_sure_probabilities_stay_useful(batch):
    network, plain = made(lambda z, _f: z.exp() / z.exp().sum(1, keepdim=True), sure=1500)
    model = Classifier(network, SHAPE)
    assert float(model.probabilities(batch).amax(1).max()) > 0.9999
    slopes = []
    for ask in (model.logits, plain):
        network.eval()
        seen = batch.clone().requires_grad_(True)
        loss = nn.functional.cross_entropy(ask(seen), torch.zeros(5, dtype=torch.int64))
        slopes.append(torch.autograd.grad(loss, seen)[0])
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-3, atol=1e-4)


SINGLE = [
    ("logit", lambda z, _f: z, "taken as a logit"),
    ("flat logit", lambda z, _f: z[:, 0], "taken as a logit"),
    ("sigmoid", lambda z, _f: z.sigmoid(), "ends in a sigmoid"),
    ("flat sigmoid", lambda z, _f: torch.sigmoid(z).squeeze(1), "ends in a sigmoid"),
    ("sigmoid by hand", lambda z, _f: 1 / (1 + (-z).exp()), "lies in 0 to 1"),
]


@pytest.mark.parametrize(("answer", "said"), [pytest.param(f, said, id=name) for name, f, said in SINGLE])
def test_one_output_becomes_two_classes(answer, said, batch):
    network, plain = made(answer, classes=1, sure=8)
    model = Classifier(network, SHAPE, class_names=("no", "yes"))
    wanted = torch.cat([torch.zeros(5, 1), plain(batch).detach()], 1)
    torch.testing.assert_close(model.all_logits(batch), wanted, rtol=1e-4, atol=1e-5)
    assert model.answers(batch).tolist() == (wanted[:, 1] > 0).long().tolist()
    assert said in model.origin.notes[0]
    assert "two classes" in model.origin.notes[0]
    weight, bias = model.head_weights()
    torch.testing.assert_close(model.activations(batch) @ weight.T + bias, wanted, rtol=1e-4, atol=1e-5)


def two_heads():
    torch.manual_seed(1)
    network = Net(lambda z, f: {"age": network.age(f), "colour": z})
    network.age = nn.Linear(12, 3)
    return network


def test_several_heads_are_asked_for(batch):
    network = two_heads()
    with pytest.raises(OptionError, match=r"got age \(N, 3\), colour \(N, 4\): name one with --output"):
        Classifier(network, SHAPE)
    with pytest.raises(OptionError, match=r"expected an output out of age \(N, 3\), .*got 'size'"):
        Classifier(network, SHAPE, output="size")
    by_name, by_place = (Classifier(network, SHAPE, output=name) for name in ("age", "0"))
    assert by_name.num_classes == 3
    assert by_name.head == "age"
    assert torch.equal(by_name.all_logits(batch), by_place.all_logits(batch))
    other = Classifier(network, SHAPE, output="colour")
    assert (other.num_classes, other.head) == (4, "head")
    assert digest(by_name.network) != digest(other.network)


def test_a_choice_among_outputs_is_said():
    network, _ = made(lambda z, f: (z, f))
    (note,) = Classifier(network, SHAPE, origin=Origin(path="m.pt")).origin.notes
    assert note == (
        "m.pt: of its outputs 0 (N, 4), 1 (N, 12), the first is judged: 0 (--output chooses another)"
    )
    assert Classifier(network, SHAPE, output="1").num_classes == 12


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda z, _f: z[:, :, None, None].expand(-1, -1, 2, 2), r"\(2, 4, 2, 2\)"),
        (lambda _z, _f: "words", "str"),
        (lambda z, f: {"a": z.argmax(1), "b": f.mean()}, r"the outputs a \(N\), b \(N\)"),
        (lambda z, _f: z[:0], r"\(0, 4\)"),
    ],
)
def test_what_cannot_be_logits_is_refused(answer, got):
    network, _ = made(answer)
    with pytest.raises(ModelError, match=rf"expected logits \(N, classes\) from the network, got {got}"):
        Classifier(network, SHAPE)


@pytest.mark.parametrize(
    "answer", [lambda z, f: (z, f), lambda z, _f: z.softmax(1)], ids=["tuple", "softmax"]
)
def test_the_weights_keep_their_names_and_the_network_its_answer(answer, batch):
    network, plain = made(answer)
    before = network.eval()(batch)
    model = Classifier(network, SHAPE)
    assert isinstance(model.network, Answering)
    assert list(model.network.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.network.named_modules()] == [name for name, _ in plain.named_modules()]
    after = network(batch)
    assert type(after) is type(before)
    torch.testing.assert_close(after, before)
    model.network.load_state_dict({name: tensor * 0 for name, tensor in plain.state_dict().items()})
    assert not model.all_logits(batch).any()


def test_copies_and_other_preprocessing_read_the_answers_alike(batch):
    network, plain = made(lambda z, f: (z.softmax(1), f))
    model = Classifier(network, SHAPE)
    copy, other = model.copy(), model.with_preprocessing(model.preprocessing)
    assert other.network is model.network
    assert copy.origin.notes == other.origin.notes == model.origin.notes
    with torch.no_grad():
        copy.network.head.bias += 1
        copy.module("conv").weight.zero_()
    torch.testing.assert_close(model.all_logits(batch), plain(batch).detach())
    assert not torch.allclose(copy.all_logits(batch), model.all_logits(batch))
    model.to("cpu")


def test_modes_reach_the_network_and_come_back(batch):
    network, _ = made(lambda z, f: (z, f))
    network.train()
    first, second = Classifier(network, SHAPE), Classifier(network, SHAPE)
    with first.judging(), second.judging():
        assert not network.training
        assert not network.norm.training
    assert network.training
    assert network.norm.training
    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(lambda place: (first, second)[place % 2].all_logits(batch), range(16)))
    assert all(torch.equal(one, asked[0]) for one in asked)
    assert network.training


@pytest.mark.parametrize(
    "answer", [lambda z, f: (z, f), lambda z, _f: z.softmax(1)], ids=["tuple", "softmax"]
)
def test_a_network_behind_a_reading_is_rewritten_for_searches_too(answer, batch):
    network, plain = made(answer)
    model = Classifier(network, SHAPE)
    with model.judging():
        fast = rewritten(model.network, batch, by_tiles=False)
        assert fast is not model.network
        torch.testing.assert_close(fast(batch), plain(batch), rtol=1e-4, atol=1e-5)


def test_a_softmax_layer_is_left_out_of_a_rewritten_network(batch):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(180, 4)]
    plain = nn.Sequential(*layers).eval()
    model = Classifier(nn.Sequential(*layers, nn.Softmax(1)), SHAPE)
    assert torch.equal(model.all_logits(batch), plain(batch).detach())
    with model.judging():
        fast = rewritten(model.network, batch, by_tiles=False)
        assert fast is not model.network
        torch.testing.assert_close(fast(batch), plain(batch), rtol=1e-4, atol=1e-5)


def test_more_answers_in_training_mode_than_otherwise(batch):
    network, _ = made(lambda z, f: (z, f) if network.training else z)
    model = Classifier(network, SHAPE)
    assert model.network is network
    network.train()
    assert model.logits(batch).shape == (5, 4)


def test_the_made_up_images_differ():
    found = probes((3, 16, 16))
    assert found.shape == (8, 3, 16, 16)
    assert float(found.min()) == 0
    assert float(found.max()) == 1
    assert torch.corrcoef(found[2:].flatten(1)).fill_diagonal_(0).abs().max() < 0.9
