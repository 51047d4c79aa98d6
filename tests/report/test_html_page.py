import re
from html.parser import HTMLParser

import pytest

from detrojan.findings import Finding
from detrojan.report.html_page import render_html, render_page, section
from detrojan.report.pictures import pictures_of, trigger_pictures
from detrojan.report.report import evaluate_report, measures
from detrojan.run import Run
from detrojan.triggers.patch import PatchTrigger

EVIL = '<script>alert(1)</script>"><img src=https://evil.example/x onerror=alert(2)>'
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """Collects tags and text, and notices tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text, self.faults = [], [], "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += " " + data

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(html):
    page = Page(html)
    assert page.faults == []
    assert page.open == []
    page.text = " ".join(page.text.split())
    return page


def test_a_scan_page_holds_every_part(made):
    report, result = made.make_scan(
        12, (3,), names=tuple(f"sign {n}" for n in range(12)), warnings=("odd range",)
    )
    page = page_of(render_html(report, pictures_of(result.findings, made.make_data().images)))
    assert "Backdoor found: target label 3 “sign 3”." in page.text
    for part in (
        "Warning", "Odd range.", "What was found", "severity: high", "confidence: high",
        "cut out and enlarged",
        "Anomaly index by label", "threshold 2", "Size of the trigger by label", "Numbers by label",
        "Cost", "648,000 forward and backward passes", "What was tested", "What this cannot say",
        "Inputs, versions and settings", "ab" * 32, "cd" * 32, "range 0 to 255, mean 0.5, std 2, NCHW",
        "torch ",
    ):  # fmt: skip
        assert part in page.text, part
    assert len(page.named("img")) == 2 + 6
    assert all(image["alt"] for image in page.named("img"))


def test_a_page_loads_nothing(made):
    report, result = made.make_scan(12, (3,))
    html = render_html(report, pictures_of(result.findings, made.make_data().images))
    page = page_of(html)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            if attrs.get(name):
                assert attrs[name].startswith(("data:", "#")), (tag, attrs)
    assert "url(" not in html
    assert "@import" not in html
    policy = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert policy[0].startswith("default-src 'none'; img-src data:;")


def test_names_from_files_stay_text(made):
    names = tuple(f"{EVIL}{n}" for n in range(12))
    report, result = made.make_scan(12, (3,), names=names, warnings=(EVIL,), reason=EVIL)
    origin = report.model.model_copy(update={"path": EVIL})
    data = report.data.model_copy(update={"source": EVIL, "notes": [EVIL]})
    run = report.run.model_copy(update={"hyper_parameters": {EVIL: EVIL}, "command": [EVIL], "summary": EVIL})
    report = report.model_copy(update={"model": origin, "data": data, "run": run})
    html = render_page(EVIL, [section(report, pictures_of(result.findings), title=EVIL)] * 2, intro=EVIL)
    page = page_of(html)
    assert "<script" not in html
    assert page.named("img")
    assert all(image["src"].startswith("data:image/png") for image in page.named("img"))
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "<script>alert(1)</script>" in page.text


def test_names_in_charts_of_points_stay_text(made):
    names = tuple(f"{EVIL}{n}" for n in range(60))
    report, _ = made.make_scan(60, (3, 50), names=names)
    assert "<script" not in render_html(report)
    page_of(render_html(report))


def test_control_marks_in_names_are_spelt_out(made):
    report, _ = made.make_scan(12, (3,), names=tuple(f"a\u202egnp.{n}\x1b[2J" for n in range(12)))
    html = render_html(report)
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "\\u202e" in html


def test_no_model_is_ever_called_clean(made):
    report, _ = made.make_scan(12, ())
    page = page_of(render_html(report))
    assert "No evidence of a backdoor in the 12 labels tested." in page.text
    assert "No scan can show that a model has no backdoor" in page.text
    assert "clean" not in page.text.lower()
    assert "What was found" not in page.text


def test_the_words_of_a_finding_are_explained_and_an_inconclusive_scan_is_not_sure(made):
    found, _ = made.make_scan(12, (3,))
    text = page_of(render_html(found)).text
    assert "confidence: high" in text
    assert "Severity is how bad it is if true: high where the recovered trigger works on 90%" in text
    assert (
        "Anomaly index is how far the label lies from the usual ones, in robust standard deviations" in text
    )
    doubtful, _ = made.make_scan(12, (3,), verdict="inconclusive")
    text = page_of(render_html(doubtful)).text
    assert "severity: high" in text
    assert "confidence: " not in text
    nothing, _ = made.make_scan(12, ())
    assert "how bad it is if true" not in page_of(render_html(nothing)).text


def test_a_partial_scan_names_what_it_left_out(made):
    report, _ = made.make_scan(40, ())
    report = report.model_copy(update={"model": report.model.model_copy(update={"classes": 1283})})
    text = page_of(render_html(report)).text
    assert "No evidence of a backdoor in the 40 labels tested (of 1,283)." in text
    assert "A backdoor whose target is one of the 1,243 untested labels." in text


def test_a_scan_of_1283_labels_stays_small_and_names_the_flagged(made):
    report, _ = made.make_scan(1283, (17, 520, 1210), shape=(3, 8, 8))
    html = render_html(report)
    assert len(html) < 200_000
    charts = re.findall(r'aria-label="([^"]*)"', html)
    assert any("Anomaly index of 1283 labels" in chart and "17, 520, 1210" in chart for chart in charts)
    assert "the 50 most suspicious of 1283" in html


def test_a_scan_without_measures_still_makes_a_page(made):
    nothing = Finding(label=0, flagged=False)
    report, _ = made.make_scan(10, (), findings=(nothing,), verdict="inconclusive")
    page = page_of(render_html(report))
    assert "Inconclusive: the 1 label tested" in page.text
    assert "Anomaly index by label" not in page.text
    assert "nan" not in page.text.lower().split()


def test_a_repair_page_holds_every_part(repair):
    page = page_of(render_html(repair))
    for part in (
        "Repaired by prune, finetune: attack success of the recovered trigger from 100.0% to 0.6%",
        "Before and after", "97.8% 96.9% \u22120.9", "stopped here", "Neurons pruned", "clean accuracy",
        "The repaired model was scanned again: no evidence of a backdoor.", "highest index",
        "Written to repaired.keras.", "Repaired from these findings", "What this cannot say",
        "severity: ", "Severity is how bad it is if true",
    ):  # fmt: skip
        assert part in page.text, part


@pytest.mark.parametrize(
    ("verification", "text"),
    [
        ({}, "The repaired model was not scanned again."),
        ({"verdict": "backdoored", "targets": [3]}, "a backdoor is found"),
        ({"verdict": None, "attack_success_after_retuning": 0.01}, "attack success after retuning 0.01"),
    ],
)
def test_a_repair_says_how_it_was_verified(made, verification, text):
    assert text in page_of(render_html(made.make_repair(verification=verification))).text


def test_an_evaluation_page_shows_what_was_measured(made):
    report = evaluate_report(
        measures(agreement=0.913, attack_success={1: 0.5, 4: 0.7}, stamped={1: 90}, counts={"images": 99}),
        made.make_model(10),
        made.make_data(),
        run=Run(),
        seconds=1,
        started=made.STARTED,
    )
    text = page_of(render_html(report)).text
    assert "Measured agreement 91.3%, attack success 60.0%. These are figures, not a verdict." in text
    assert "Agreement 91.3%" in text
    assert "Attack success 60.0%" in text
    assert "Counts: images 99" in text
    assert "Clean accuracy" not in text


def test_an_evaluation_of_a_detector_names_both_shares_and_shows_the_trigger(made):
    measured = measures(attack_success={1: 0.5}, counts={"images": 99, "called backdoored": 7})
    report = evaluate_report(
        measured.model_copy(update={"caught": 0.25, "false_alarms": 0.07}),
        made.make_model(10, names=tuple("abcdefghij")),
        made.make_data(),
        run=Run(),
        seconds=1,
        started=made.STARTED,
        reference="kept/<b>.pt",
        trigger="kept/sticker.png",
    )
    drawn = trigger_pictures(PatchTrigger.corner((3, 32, 32), size=4), made.make_data().images)
    page = page_of(render_html(report, {1: drawn}))
    assert "Stamped inputs caught 25.0% stamped images called backdoored" in page.text
    assert "False alarms 7.0% clean images called backdoored" in page.text
    assert "The trigger that was stamped for label 1 “b” Read from kept/sticker.png." in page.text
    assert "stamped images answered 1 “b”" in page.text
    assert "The reference is kept/<b>.pt. Its answers stand in for the labels." in page.text
    assert "clean called backdoored 7" in page.text
    assert render_html(report, {1: drawn}).count("data:image/png") == 2 + 6
    assert "was stamped" not in page_of(render_html(report)).text


def test_a_page_of_several_sections_starts_with_their_results(made):
    scan, _ = made.make_scan(12, (3,))
    twin, _ = made.make_scan(12, ())
    page = page_of(
        render_page(
            "Demo",
            [
                section(scan, title="First"),
                section(twin, title="Twin"),
                section(made.make_repair(), title="Mended"),
            ],
        )
    )
    assert [attrs["href"] for attrs in page.named("a")] == ["#part-1", "#part-2", "#part-3"]
    assert [attrs["id"] for attrs in page.named("section")] == ["part-1", "part-2", "part-3"]
    assert page.text.index("Twin No evidence of a backdoor") < page.text.index("What was found")


def test_the_verdict_comes_first_in_its_colour(made):
    for report, mood in (
        (made.make_scan(12, (3,))[0], "backdoored"),
        (made.make_scan(12, ())[0], "no-evidence"),
        (made.make_repair(), "good"),
        (made.make_repair(verification={"verdict": "backdoored"}), "backdoored"),
        (made.make_repair(verification={"verdict": "inconclusive"}), "inconclusive"),
    ):
        body = render_html(report).partition("<body>")[2]
        verdict = body.index('<div class="verdict ')
        assert body[verdict:].startswith(f'<div class="verdict {mood}">')
        assert verdict < body.index("What to do now") < body.index("Inputs, versions and settings")


def test_a_page_of_several_sections_begins_with_their_verdicts_in_colour(made):
    parts = [section(made.make_scan(12, (3,))[0], title="A"), section(made.make_repair(), title="B")]
    html = render_page("Demo", parts, intro="What it is about.")
    outline = html[html.index("<nav") : html.index("</nav>")]
    assert 'class="verdict backdoored"' in outline
    assert 'class="verdict good"' in outline
    assert html.index("</nav>") < html.index("What it is about.")


def test_the_head_names_the_file_and_not_its_path(made):
    report, _ = made.make_scan(12, (3,))
    report = report.model_copy(
        update={"model": report.model.model_copy(update={"path": "/a/long/way/net.pt"})}
    )
    html = render_html(report)
    head = page_of(html).text.partition("What to do now")[0]
    assert "Backdoor scan of net.pt" in head
    assert "SHA-256 abababababab…" in head
    assert "Date 2026-03-01 12:30 UTC" in head
    assert f"detrojan {report.run.versions['detrojan']}" in head
    assert "/a/long/way" not in head
    assert "/a/long/way/net.pt" in html, "the record has all of it"


def test_the_names_of_the_attack_stand_on_the_page(made):
    found = page_of(render_html(made.make_scan(12, (3,))[0])).text
    assert "Known as: MITRE ATLAS AML.T0018 Manipulate AI Model" in found
    assert "OWASP ML Top 10 ML10:2023 Model Poisoning" in found
    assert "Looked for: MITRE ATLAS" in page_of(render_html(made.make_scan(12, ())[0])).text


def test_where_sizes_do_not_tell_the_story_what_decided_is_drawn(made):
    report, _ = made.make_scan(12, (3,))
    assert "Size of the trigger by label" in render_html(report)
    other = [
        entry.model_copy(update={"size": None, "unit": None}) if entry.flagged else entry
        for entry in report.evidence
    ]
    flagged = [entry.model_copy(update={"size": None, "unit": None}) for entry in report.findings]
    text = page_of(render_html(report.model_copy(update={"evidence": other, "findings": flagged}))).text
    assert "Size of the trigger by label" not in text
    assert text.index("Anomaly index by label") < text.index("Numbers by label")


def test_the_model_s_answers_stand_under_the_pictures(made):
    names = tuple(f"sign {n}" for n in range(12))
    report, result = made.make_scan(12, (3,), names=names)
    model, images = made.make_model(12, names=names), made.make_data().images
    text = page_of(render_html(report, pictures_of(result.findings, images, model=model))).text
    first = model.probabilities(images).max(1)
    shown = [n for n in range(len(images)) if int(first.indices[n]) != 3]
    for place in shown:
        label, sure = int(first.indices[place]), float(first.values[place])
        assert f"{label} “sign {label}” {sure:.0%} →" in text


def test_terms_are_explained_where_they_first_stand(made):
    report, _ = made.make_scan(12, (3,))
    text = page_of(render_html(report)).text
    assert text.index("Anomaly index : how far the label lies") < text.index("What was found")
    assert "Size is the sum of the mask" in text
    assert any(
        "Anomaly index is how far" in attrs["title"] for attrs in page_of(render_html(report)).named("abbr")
    )


def test_sentences_begin_with_a_capital(made):
    report, _ = made.make_scan(12, (), reason="no label needs a small trigger", warnings=("only 3 images",))
    text = page_of(render_html(report)).text
    assert "No label needs a small trigger." in text
    assert "Only 3 images." in text


def test_a_scan_that_tested_no_label_says_so_at_the_top(made):
    report, _ = made.make_scan(12, (), verdict="inconclusive")
    report = report.model_copy(update={"labels_tested": []})
    assert "Inconclusive: no label was tested." in page_of(render_html(report)).text


def test_why_a_repair_failed_stands_in_the_box_of_the_verdict(made):
    found = {"verdict": "backdoored", "reason": "Label 3 stands out.", "targets": [3]}
    page = render_html(made.make_repair(verification=found))
    box = page.partition('<div class="verdict backdoored">')[2].partition("</div>\n</div>")[0]
    assert "Not repaired, since the new scan finds a backdoor. Written to repaired.keras." in box
