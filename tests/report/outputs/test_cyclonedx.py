"""CycloneDX; its own library checks the schema with `make test-extras`."""

import json

import pytest

from detrojan.report.outputs.base import outputs


@pytest.fixture
def bom(results):
    return json.loads(outputs()["cyclonedx"].render_all(results))


def test_each_model_and_its_data_are_components_with_digests(bom):
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    kinds = [(entry["type"], entry["name"]) for entry in bom["components"]]
    assert kinds[:2] == [("machine-learning-model", "m 0.h5"), ("data", "faces.npz")]
    model = bom["components"][0]
    assert model["hashes"] == [{"alg": "SHA-256", "content": "0a" * 32}]
    card = model["modelCard"]
    assert card["modelParameters"]["modelArchitecture"] == "sign_cnn"
    assert card["quantitativeAnalysis"]["performanceMetrics"][0]["value"] == "0.995"
    repaired = next(entry for entry in bom["components"] if entry["name"] == "repaired.keras")
    assert repaired["hashes"][0]["content"] == "cd" * 32
    assert repaired["pedigree"]["ancestors"][0]["hashes"][0]["content"] == "ab" * 32


def test_every_reference_leads_somewhere(bom):
    names = [entry["bom-ref"] for entry in bom["components"]]
    assert len(names) == len(set(names))
    declared = bom["declarations"]
    claims = {claim["bom-ref"]: claim for claim in declared["claims"]}
    shown = {entry["bom-ref"] for entry in declared["evidence"]}
    (attestation,) = declared["attestations"]
    assert [name for entry in attestation["map"] for name in entry["claims"]] == list(claims)
    for claim in claims.values():
        assert claim["target"] in names
        assert set(claim["evidence"]) <= shown
    for problem in bom["vulnerabilities"]:
        assert {entry["ref"] for entry in problem["affects"]} <= set(names)
    for entry in bom["components"]:
        for data in entry.get("modelCard", {}).get("modelParameters", {}).get("datasets", []):
            assert data["ref"] in names


def test_problems_are_vulnerabilities_and_an_accepted_one_says_so(bom):
    first, _, known, _ = bom["vulnerabilities"]
    assert first["id"].startswith("detrojan:backdoor/targeted:")
    assert (first["cwes"], first["analysis"]) == ([506, 507], {"state": "in_triage"})
    assert known["analysis"]["response"] == ["will_not_fix"]
    assert "until 2027-01-31: a known quirk" in known["analysis"]["detail"]


def test_equal_results_give_equal_documents(results):
    output = outputs()["cyclonedx"]
    assert output.render_all(results) == output.render_all(results)
    assert output.render_all(results[:1]) != output.render_all(results[1:2])
