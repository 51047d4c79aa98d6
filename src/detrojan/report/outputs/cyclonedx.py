"""Results as a CycloneDX 1.6 bill of materials: the judged model, and what a scan says of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from detrojan.report.outputs.base import Gathering

if TYPE_CHECKING:
    from detrojan.report.problems import Judged, Problem, Result

Values = dict[str, Any]

_SEVERITY = {"high": "high", "medium": "medium", "low": "low", None: "unknown"}
_LIMIT = "No scan can show that a model has no backdoor: it finds those that its method looks for."
_ASSESSOR = "assessor-detrojan"


class CycloneDx(Gathering):
    """A component for each model and its data, problems as vulnerabilities, the scan as an attestation."""

    name = "cyclonedx"
    help = "Also write a CycloneDX 1.6 ML-BOM here (JSON)."
    endings = ("cdx",)

    def render_all(self, results: Sequence[Result]) -> str:
        """Return the document, with a line break at its end; equal results give equal documents."""
        from detrojan.report.problems import judged  # noqa: PLC0415 - `--help` shall be fast

        subjects = [judged(result) for result in results]
        components: dict[str, Values] = {}
        for one in subjects:
            for component in (_subject(one), *_data_of(one)):
                components.setdefault(component["bom-ref"], component)
        body: Values = {"components": list(components.values())}
        if vulnerable := [
            _vulnerability(problem, one) for one in subjects if one.done for problem in one.problems
        ]:
            body["vulnerabilities"] = vulnerable
        body["declarations"] = _declarations([one for one in subjects if one.done])
        times = [one.ended for one in subjects if one.ended]
        tool: Values = {"type": "application", "name": "detrojan"}
        if versions := [one.version for one in subjects if one.version]:
            tool["version"] = versions[0]
        metadata: Values = {"tools": {"components": [tool]}}
        if times:
            metadata["timestamp"] = max(times)
        number = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([body, metadata], sort_keys=True))
        document = {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{number}",
            "version": 1,
            "metadata": metadata,
            **body,
        }
        return json.dumps(document, indent=2) + "\n"


def _ref(kind: str, sha256: str, path: str) -> str:
    """Return the name that the document knows a component by; a file that was not read has only its path."""
    return f"{kind}-{sha256 or uuid.uuid5(uuid.NAMESPACE_OID, path)}"


def _component(kind: str, path: str, sha256: str, ref: str) -> Values:
    from detrojan.words import file_name  # noqa: PLC0415

    values: Values = {"type": kind, "bom-ref": ref, "name": file_name(path) or "model"}
    if sha256:
        values["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if path:
        values["properties"] = [{"name": "detrojan:path", "value": path}]
    return values


def _subject_ref(one: Judged) -> str:
    return _ref("data" if one.verb == "filter" else "model", one.sha256, one.path)


def _subject(one: Judged) -> Values:
    """Return the judged model with its card, or the judged data."""
    from detrojan.report.schema import RepairReport, ScanReport  # noqa: PLC0415

    if one.verb == "filter":
        return _component("data", one.path, one.sha256, _subject_ref(one))
    component = _component("machine-learning-model", one.path, one.sha256, _subject_ref(one))
    result = one.result
    if not isinstance(result, ScanReport | RepairReport):
        return component
    facts = result.model
    parameters: Values = {
        "task": "image classification",
        "datasets": [{"ref": data["bom-ref"]} for data in _data_of(one)],
        "inputs": [{"format": f"image of {' x '.join(map(str, facts.input_shape))} (C, H, W)"}],
        "outputs": [{"format": f"scores of {facts.classes} classes"}],
    }
    if facts.net:
        parameters["modelArchitecture"] = facts.net
    card: Values = {"modelParameters": parameters, "considerations": {"technicalLimitations": [_LIMIT]}}
    if figures := _figures(one):
        card["quantitativeAnalysis"] = {"performanceMetrics": figures}
    component["modelCard"] = card
    if isinstance(result, RepairReport) and result.output:
        delivered = _component(
            "machine-learning-model", facts.path, facts.sha256, _ref("model", facts.sha256, facts.path)
        )
        component["pedigree"] = {"ancestors": [delivered], "notes": one.said}
    return component


def _figures(one: Judged) -> list[Values]:
    """Return what was measured of the model."""
    from detrojan.report.schema import RepairReport  # noqa: PLC0415

    figures: list[Values] = [
        {
            "type": "attack success of the recovered trigger",
            "value": f"{problem.attack_success:.4g}",
            "slice": "all labels" if problem.label is None else f"label {problem.label}",
        }
        for problem in one.problems
        if problem.attack_success is not None
    ]
    if isinstance(one.result, RepairReport):
        after = one.result.after
        measured = {"clean accuracy": after.clean_accuracy, "attack success": after.attack_success}
        figures += [
            {"type": name, "value": f"{value:.4g}"} for name, value in measured.items() if value is not None
        ]
    return figures


def _data_of(one: Judged) -> list[Values]:
    """Return the images that a model was judged on."""
    from detrojan.report.schema import RepairReport, ScanReport  # noqa: PLC0415

    result = one.result
    if not isinstance(result, ScanReport | RepairReport):
        return []
    data = result.data
    return [_component("data", data.source, data.sha256, _ref("data", data.sha256, data.source))]


def _vulnerability(problem: Problem, one: Judged) -> Values:
    """Return a problem; one that a baseline accepts says so in its analysis."""
    rating = {"severity": _SEVERITY[problem.severity], "method": "other"}
    values: Values = {
        "bom-ref": f"problem-{problem.fingerprint}",
        "id": f"detrojan:{problem.rule.id}:{problem.fingerprint}",
        "source": {"name": "detrojan"},
        "ratings": [rating],
        "description": problem.message,
        "detail": problem.rule.text,
        "recommendation": problem.rule.help,
        "affects": [{"ref": _subject_ref(one)}],
        "analysis": {"state": "in_triage"},
    }
    if problem.rule.weaknesses:
        values["cwes"] = list(problem.rule.weaknesses)
    if problem.accepted is not None:
        until = "" if problem.accepted.expires is None else f" until {problem.accepted.expires}"
        said = f"Accepted by a baseline{until}: {problem.accepted.reason or 'known finding'}"
        values["analysis"] = {"state": "in_triage", "response": ["will_not_fix"], "detail": said}
    return values


def _declarations(subjects: Sequence[Judged]) -> Values:
    """Return who judged, what is claimed of each subject, and what that rests on."""
    claims, evidence = list[Values](), list[Values]()
    for place, one in enumerate(subjects):
        shown: Values = {
            "bom-ref": f"evidence-{place}",
            "propertyName": f"detrojan:{one.verb}",
            "description": f"{one.said} Method {one.method}, seed {one.seed}, detrojan {one.version}.",
            "data": [
                {
                    "name": "verdict",
                    "contents": {"attachment": {"contentType": "text/plain", "content": one.verdict}},
                }
            ],
        }
        if one.ended:
            shown["created"] = one.ended
        evidence.append(shown)
        claims.append(
            {
                "bom-ref": f"claim-{place}",
                "target": _subject_ref(one),
                "predicate": f"{one.verb}: {one.verdict}",
                "reasoning": one.said,
                "evidence": [f"evidence-{place}"],
            }
        )
    return {
        "assessors": [
            {"bom-ref": _ASSESSOR, "thirdParty": False, "organization": {"name": "the user of detrojan"}}
        ],
        "attestations": [
            {
                "summary": "What detrojan says of these files.",
                "assessor": _ASSESSOR,
                "map": [{"claims": [claim["bom-ref"]]} for claim in claims],
            }
        ],
        "claims": claims,
        "evidence": evidence,
    }
