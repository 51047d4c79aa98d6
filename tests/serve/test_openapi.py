"""The OpenAPI document names every endpoint, and what it says of the answers holds."""

import re

import pytest
import torch

from detrojan.serve.refusals import STATUS
from detrojan.serve.routes import _routes


def fitting(value, schema, schemas):
    """Tell whether a value is what a schema of the document says; as far as these schemas go."""
    if "$ref" in schema:
        return fitting(value, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    kinds["number"] = (int, float)
    stated = schema.get("type", [])
    stated = [stated] if isinstance(stated, str) else stated
    if stated and not any(isinstance(value, kinds[kind]) for kind in stated):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        inside = all(fitting(value[name], one, schemas) for name, one in known.items() if name in value)
        return inside and set(schema.get("required", [])) <= set(value)
    if isinstance(value, list):
        return all(fitting(one, schema.get("items", {}), schemas) for one in value)
    return True


@pytest.fixture(scope="module")
def document(service):
    answer = service.client.get("/openapi.json")
    assert answer.status == 200
    return answer.json


def test_it_names_every_endpoint(document):
    paths = {
        (path.replace("{name}", "model").replace("{version}", "1"), method.lower())
        for path, _, method in _routes()
    }
    assert {(path, method) for path, ways in document["paths"].items() for method in ways} == paths
    operations = [one for ways in document["paths"].values() for one in ways.values()]
    statuses = {status for one in operations for status in one["responses"]}
    assert {str(status) for status in STATUS.values()} <= statuses


def test_what_it_says_of_the_answers_holds(document, service, world):
    schemas = document["components"]["schemas"]
    for path, ways in document["paths"].items():
        if "get" not in ways or "{" in path:
            continue
        answer = service.client.get(path)
        ((kind, said),) = ways["get"]["responses"]["200"]["content"].items()
        assert answer.headers["content-type"].startswith(kind)
        assert kind != "application/json" or fitting(answer.json, said["schema"], schemas)
    answer = service.client.infer(world.clean[:2])
    assert fitting(answer.json, schemas["InferResponse"], schemas)
    assert fitting(service.client.post({}).json, schemas["Error"], schemas)
    assert not fitting(answer.json, schemas["Error"], schemas)


def test_the_request_is_described_as_the_model_takes_it(document, service):
    asked = document["components"]["schemas"]["InferRequest"]["properties"]["inputs"]["items"]["properties"]
    assert asked["name"] == {"const": "images"}
    assert asked["shape"]["prefixItems"][1:] == [{"const": side} for side in (1, 20, 20)]
    shape = [1, *(side["const"] for side in asked["shape"]["prefixItems"][1:])]
    datatype = next(kind for kind in asked["datatype"]["enum"] if re.match("FP", kind))
    given = {
        "name": "images",
        "datatype": datatype,
        "shape": shape,
        "data": torch.zeros(shape).flatten().tolist(),
    }
    assert service.client.post({"inputs": [given]}).status == 200
