from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

import detrojan
from detrojan.errors import DataError, ModelError, OptionError, RangeError
from detrojan.findings import Finding
from detrojan.guards.strip import Strip
from detrojan.models.loading import file_sha256
from detrojan.repairs.finetune import FineTune
from detrojan.report.reading import load_report
from detrojan.run import Run
from detrojan.scans.neural_cleanse import NeuralCleanse
from twins import TARGET

QUICK = NeuralCleanse(steps=60, mini_batches=2, batch_size=16, samples=150)


@pytest.fixture(scope="module")
def scanned(twins):
    return detrojan.scan(twins.backdoored, twins.test, method=QUICK, run=Run(seed=1))


def test_a_scan_gives_what_the_method_gives(twins):
    brief, few = replace(QUICK, steps=3), twins.test.sample(150, Run(seed=1).generator("data"))
    called = detrojan.scan(twins.backdoored, twins.test, method=brief, run=Run(seed=1))
    plain = brief.scan(twins.backdoored, few, run=Run(seed=1))
    assert called.verdict == plain.verdict
    assert [entry.anomaly_index for entry in called.result.findings] == [
        entry.anomaly_index for entry in plain.findings
    ]


def test_a_scan_names_the_target_and_says_so_in_one_line(scanned):
    assert scanned.verdict == "backdoored"
    assert scanned.targets == [TARGET]
    assert [finding.label for finding in scanned.findings] == [TARGET]
    assert repr(scanned).startswith(f"<backdoored: target {TARGET}")
    assert "\n" not in repr(scanned)


def test_a_bare_module_and_arrays_do(twins):
    brief, data = replace(QUICK, steps=3), twins.test
    pixels = (data.images * 255).round().byte()
    out = detrojan.scan(
        twins.backdoored.network,
        pixels.permute(0, 2, 3, 1).numpy(),
        data.labels.numpy(),
        method=brief,
        run=Run(seed=1),
    )
    rounded = replace(data, images=pixels / 255)
    wrapped = detrojan.scan(twins.backdoored, rounded, method=brief, run=Run(seed=1))
    assert len(out.result.findings) == twins.backdoored.num_classes
    for one, other in zip(out.result.findings, wrapped.result.findings, strict=True):
        assert one.size == pytest.approx(other.size, rel=1e-4)
    assert out.report.data.labelled


def test_a_result_is_saved_as_its_ending_says(scanned, tmp_path):
    assert load_report(scanned.save(tmp_path / "scan.json")).verdict == "backdoored"
    assert scanned.save(tmp_path / "scan.html").read_text().startswith("<!doctype html>")
    assert json.loads(scanned.to_json())["verdict"] == "backdoored"
    with pytest.raises(OptionError, match=r"expected a file that ends in \.json, \.html.*, got scan\.docx"):
        scanned.save(tmp_path / "scan.docx")


def test_a_notebook_shows_the_page_in_a_frame(scanned):
    shown = scanned._repr_html_()
    assert shown.startswith("<iframe")
    assert "sandbox" in shown
    assert "&lt;!doctype html&gt;" in shown
    assert "<script" not in shown


def test_a_repair_gives_a_copy_and_what_it_came_to(twins, scanned, tmp_path):
    before = twins.backdoored.all_logits(twins.test.images[:5])
    out = detrojan.repair(
        twins.backdoored,
        twins.test,
        findings=scanned,
        method=FineTune(epochs=1),
        verify=False,
        run=Run(seed=1),
    )
    assert torch.equal(twins.backdoored.all_logits(twins.test.images[:5]), before)
    assert not torch.equal(out.model.all_logits(twins.test.images[:5]), before)
    assert out.outcome in {"repaired", "not repaired"}
    assert repr(out).startswith(f"<{out.outcome}; recovered trigger ")
    assert bool(out.complaint) == (out.outcome == "not repaired")
    assert "Written to" not in out.save(tmp_path / "repair.html").read_text()
    path = out.save_model(tmp_path / "repaired.safetensors")
    assert (out.report.output, out.report.output_sha256) == (str(path), file_sha256(path))
    assert "Written to" in out.save(tmp_path / "repair.html").read_text()
    read = detrojan.load_model(path)
    again, mended = (model.all_logits(twins.test.images[:5]) for model in (read, out.model))
    assert torch.allclose(again, mended, atol=1e-4)  # another copy in memory may be summed otherwise


def test_a_repair_without_findings_takes_a_method_that_needs_none(twins):
    out = detrojan.repair(twins.clean, twins.test, findings=[], method=FineTune(epochs=1), verify=False)
    assert out.outcome == "not verified"
    with pytest.raises(OptionError, match="expected methods that need no trigger"):
        detrojan.repair(twins.clean, twins.test, findings=[], method="adversarial", verify=False)


def test_a_scan_that_flagged_nothing_leaves_nothing_to_repair(twins, scanned):
    harmless = [Finding(label=TARGET, flagged=False)]
    nothing = detrojan.ScanOutcome(
        report=scanned.report,
        result=detrojan.ScanResult(verdict="no evidence", reason="", findings=tuple(harmless), passes=1),
    )
    with pytest.raises(DataError, match="expected a backdoor to repair; the scan flagged no label"):
        detrojan.repair(twins.clean, twins.test, findings=nothing, verify=False)


def test_a_guard_refuses_images_and_says_what_it_refuses(twins):
    images = twins.test.images
    guard = detrojan.guard(
        twins.backdoored, twins.test, frr=0.05, method="strip", samples=200, run=Run(seed=1)
    )
    assert guard.method.frr == 0.05
    assert guard.refuses(images[:9]).shape == (9,)
    assert torch.equal(guard.refuses(images[:9]), guard.suspicious(guard.score(images[:9])))
    assert "refuses an entropy at or below" in repr(guard)
    assert len(repr(guard)) < 120


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda t: detrojan.scan(t.clean, t.test, method=QUICK, budget=5),
            "expected the budget as a setting of",
        ),
        (lambda t: detrojan.scan(t.clean, t.test, method="nothing"), "nothing"),
        (lambda t: detrojan.repair(t.clean, t.test, use=1.5), r"expected use in \(0, 1\), got 1.5"),
    ],
)
def test_options_that_do_not_go_together_are_refused(twins, call, text):
    with pytest.raises(OptionError, match=text):
        call(twins)


def test_a_call_within_no_grad_works_and_leaves_everything_as_it_was(twins):
    brief, network = replace(QUICK, steps=3), twins.backdoored.copy().network.train()
    for parameter in network.parameters():
        parameter.requires_grad_(True).grad = torch.ones_like(parameter)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for around in (torch.no_grad(), torch.inference_mode()):
        with around:
            found = detrojan.scan(network, twins.test.images[:150], method=brief, run=Run(seed=1))
        assert len(found.result.findings) == twins.backdoored.num_classes
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert all(p.requires_grad and bool((p.grad == 1).all()) for p in network.parameters())


def test_a_network_without_gradients_is_refused_by_a_scan_that_needs_them(twins):
    class Answers(torch.nn.Module):
        @torch.no_grad()
        def forward(self, images):
            return twins.backdoored.network(images)

    brief = replace(QUICK, steps=3)
    with pytest.raises(ModelError, match="got one without: take"):
        detrojan.scan(Answers(), twins.test.images[:150], method=brief)


def test_errors_name_the_arguments_of_a_call(twins):
    class Two(torch.nn.Module):
        def forward(self, images):
            return {"a": twins.backdoored.network(images), "b": images.mean((2, 3))}

    with pytest.raises(OptionError, match="name one with output="):
        detrojan.scan(Two(), twins.test.images[:30])
    for wrong, text in (({"budget": 0}, "budget above 0"), ({"samples": 0}, "samples? or more")):
        with pytest.raises(OptionError, match=text):
            detrojan.scan(twins.backdoored, twins.test, **wrong)


def test_a_guard_is_not_set_up_for_a_network_that_is_clearly_fed_wrongly(twins):
    class Saturated(torch.nn.Module):
        def forward(self, images):
            return twins.backdoored.network(images.clamp(0, 1))

    assert detrojan.guard(Saturated(), twins.test, method=Strip(copies=5)).threshold
    with pytest.raises(ModelError, match="input range"):
        detrojan.guard(Saturated(), twins.test, method=Strip(copies=5), input_range=(0, 255))


def test_a_guard_judges_pictures_and_bytes_as_tensors(twins):
    guard = detrojan.guard(twins.backdoored, twins.test, method=Strip(copies=5), run=Run(seed=1))
    pixels = (twins.test.images[:20] * 255).round().byte()
    wanted = guard.score(pixels / 255)
    assert guard.refuses(pixels).tolist() == guard.suspicious(wanted).tolist()
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(one) for one in arrays]
    for form in (arrays, pictures):
        assert guard.refuses(form).tolist() == guard.suspicious(wanted).tolist()
    with pytest.raises(RangeError):
        guard.refuses(pixels.float())
