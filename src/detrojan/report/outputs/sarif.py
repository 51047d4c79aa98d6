"""Results as SARIF 2.1.0, which code scanning and security dashboards read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from detrojan.report.outputs.base import Gathering

if TYPE_CHECKING:
    from detrojan.report.problems import Judged, Problem, Result
    from detrojan.report.rules import Rule

Values = dict[str, Any]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ATLAS, _OWASP, _CWE = "MITRE ATLAS", "OWASP ML Top 10", "CWE"
#: the lists of threats: who keeps them, and where
_LISTS = {
    _ATLAS: ("MITRE", "https://atlas.mitre.org"),
    _OWASP: ("OWASP Foundation", "https://owasp.org/www-project-machine-learning-security-top-10"),
    _CWE: ("MITRE", "https://cwe.mitre.org"),
}


class Sarif(Gathering):
    """One run with a result for each problem, its rule, and the judged files with their digests."""

    name = "sarif"
    help = "Also write SARIF 2.1.0 here, for code scanning."

    def render_all(self, results: Sequence[Result]) -> str:
        """Return the log, with a line break at its end."""
        from detrojan.report.problems import judged  # noqa: PLC0415 - `--help` shall be fast
        from detrojan.report.rules import RULES  # noqa: PLC0415

        subjects = [judged(result) for result in results]
        version = next((one.version for one in subjects if one.version), "unknown")
        taxa = _taxa(RULES)
        verbs = sorted({one.verb for one in subjects})
        run = {
            "tool": {
                "driver": {
                    "name": "detrojan",
                    "version": version,
                    "shortDescription": {"text": "Finds backdoors in neural networks."},
                    "rules": [_rule(rule, taxa) for rule in RULES],
                    "supportedTaxonomies": [
                        {"name": name, "index": place} for place, name in enumerate(taxa)
                    ],
                }
            },
            "taxonomies": [_taxonomy(name, entries) for name, entries in taxa.items()],
            "automationDetails": {"id": f"detrojan/{'-'.join(verbs) or 'scan'}/"},
            "invocations": [_invocation(one) for one in subjects],
            "artifacts": [_artifact(one) for one in subjects],
            "results": [
                _result(problem, one, place)
                for place, one in enumerate(subjects)
                if one.done
                for problem in one.problems
            ],
        }
        return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _taxa(rules: Sequence[Rule]) -> dict[str, list[Values]]:
    """Return the entries of each list of threats that a rule names."""
    from detrojan.report.advice import TAXONOMY  # noqa: PLC0415
    from detrojan.report.rules import WEAKNESSES  # noqa: PLC0415

    used = {number for rule in rules for number in rule.threats}
    taxa: dict[str, list[Values]] = {_ATLAS: [], _OWASP: [], _CWE: []}
    for entry in TAXONOMY:
        if entry.id in used:
            taxa[entry.framework].append({"id": entry.id, "name": entry.name})
    for taxon in taxa[_ATLAS]:
        technique, _, part = taxon["id"].removeprefix("AML.").partition(".")
        taxon["helpUri"] = f"https://atlas.mitre.org/techniques/AML.{technique}{'.' * bool(part)}{part}"
    for number, name in WEAKNESSES.items():
        taxa[_CWE].append(
            {
                "id": str(number),
                "name": name,
                "helpUri": f"https://cwe.mitre.org/data/definitions/{number}.html",
            }
        )
    return taxa


def _taxonomy(name: str, entries: list[Values]) -> Values:
    organization, address = _LISTS[name]
    return {
        "name": name,
        "organization": organization,
        "informationUri": address,
        "isComprehensive": False,
        "shortDescription": {"text": f"Entries of {name} that the rules of detrojan name."},
        "taxa": [{**entry, "shortDescription": {"text": entry["name"]}} for entry in entries],
    }


def _rule(rule: Rule, taxa: dict[str, list[Values]]) -> Values:
    named = {*rule.threats, *map(str, rule.weaknesses)}
    relationships = [
        {
            "target": {"id": entry["id"], "index": place, "toolComponent": {"name": name, "index": number}},
            "kinds": ["relevant"],
        }
        for number, (name, entries) in enumerate(taxa.items())
        for place, entry in enumerate(entries)
        if entry["id"] in named
    ]
    tags = ["security", *(f"external/cwe/cwe-{number}" for number in rule.weaknesses)]
    properties: Values = {"tags": tags}
    if rule.security is not None:
        properties["security-severity"] = f"{rule.security:.1f}"
    return {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.id.replace("/", "-").split("-")),
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.text},
        "help": {"text": rule.help, "markdown": rule.help},
        "defaultConfiguration": {"level": rule.level},
        "relationships": relationships,
        "properties": properties,
    }


def _invocation(one: Judged) -> Values:
    """Return one call: when, with which words and settings, and whether it came to a result."""
    values: Values = {
        "executionSuccessful": one.done,
        "exitCode": one.exit_code,
        "properties": {"verb": one.verb, "verdict": one.verdict, "method": one.method, "seed": one.seed},
    }
    if one.started:
        values |= {"startTimeUtc": one.started, "endTimeUtc": one.ended}
    if one.command:
        values["arguments"] = list(one.command[1:])
    if not one.done:
        values["toolExecutionNotifications"] = [
            {
                "level": "error",
                "message": {"text": problem.message},
                "associatedRule": {"id": problem.rule.id, "index": _place(problem.rule)},
                **_locations(one),
            }
            for problem in one.problems
        ]
    return values


def _place(rule: Rule) -> int:
    from detrojan.report.rules import RULES  # noqa: PLC0415

    return RULES.index(rule)


def _artifact(one: Judged) -> Values:
    values: Values = {"roles": ["analysisTarget"], "description": {"text": one.said}}
    if one.path:
        values["location"] = {"uri": _address(one.path)}
    if one.sha256:
        values["hashes"] = {"sha-256": one.sha256}
    return values


def _address(path: str) -> str:
    """Return a path as a relative or an absolute address."""
    if "://" in path:
        return quote(path, safe="/:?&=%#@+,;~")
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix())


def _locations(one: Judged, place: int | None = None, label: Values | None = None) -> Values:
    """Return where a problem lies: in the file, and at which label."""
    location: Values = {}
    if one.path:
        where: Values = {"uri": _address(one.path)}
        if place is not None:
            where["index"] = place
        location["physicalLocation"] = {"artifactLocation": where, "region": {"startLine": 1}}
    if label is not None:
        location["logicalLocations"] = [label]
    return {"locations": [location]} if location else {}


def _result(problem: Problem, one: Judged, place: int) -> Values:
    label = None
    if problem.label is not None:
        name = f"label {problem.label}"
        label = {"name": name, "decoratedName": f"{name} {problem.class_name}".strip(), "kind": "label"}
    values: Values = {
        "ruleId": problem.rule.id,
        "ruleIndex": _place(problem.rule),
        "level": problem.rule.level,
        "message": {"text": problem.message},
        **_locations(one, place, label),
        "partialFingerprints": {"detrojan/1": problem.fingerprint},
        "properties": {
            name: value
            for name, value in (
                ("targetLabel", problem.label),
                ("sourceLabel", problem.source),
                ("labelOffset", problem.offset or None),
                ("severity", problem.severity),
                ("confidence", problem.confidence),
                ("attackSuccess", problem.attack_success),
                ("trigger", problem.trigger),
                ("modelSha256", one.sha256 or None),
            )
            if value is not None
        },
    }
    if problem.attack_success is not None:
        values["rank"] = round(100.0 * problem.attack_success, 1)
    if one.baselined:
        values["baselineState"] = "new" if problem.accepted is None else "unchanged"
    if problem.accepted is not None:
        until = "" if problem.accepted.expires is None else f" (until {problem.accepted.expires})"
        values["suppressions"] = [
            {
                "kind": "external",
                "status": "accepted",
                "justification": f"{problem.accepted.reason or 'known finding'}{until}",
            }
        ]
    return values
