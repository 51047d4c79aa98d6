"""The service as an OpenAPI document, for clients that are generated or tested by one."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from detrojan.serve.refusals import STATUS
from detrojan.serve.service import Service
from detrojan.serve.tensors import HEADER

_ERROR = {"$ref": "#/components/schemas/Error"}
#: why each status is answered
_WHY: dict[int, str] = {}
for _reason, _status in STATUS.items():
    _WHY[_status] = f"{_WHY[_status]}, {_reason}" if _status in _WHY else _reason


def document(service: Service) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a service."""
    model = f"/v2/models/{service.name}"
    models: dict[str, Any] = {}
    for path in (model, f"{model}/versions/{service.version}"):
        models |= {
            path: {"get": _read("The model's inputs, outputs and preprocessing.", "Model")},
            f"{path}/ready": {"get": _read("Whether the model can be asked.", "Ready", 503)},
            f"{path}/infer": {"post": _infer()},
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "detrojan",
            "version": version("detrojan"),
            "description": "A model behind a guard, by the Open Inference Protocol, version 2.",
        },
        "paths": {
            "/v2": {"get": _read("Name and version of the server.", "Server")},
            "/v2/health/live": {"get": _read("Whether the process lives.", "Live")},
            "/v2/health/ready": {"get": _read("Whether requests are welcome.", "Ready", 503)},
            **models,
            "/classify": {"post": _classify()},
            "/state": {"get": _read("What the page shows.", "State")},
            "/region/{number}": {"get": _region()},
            "/metrics": {"get": _text("Metrics for Prometheus.", "text/plain")},
            "/openapi.json": {"get": _read("This document.", "State")},
            "/": {"get": _text("The page.", "text/html")},
            "/page.css": {"get": _text("Its style.", "text/css")},
            "/page.js": {"get": _text("Its script.", "text/javascript")},
        },
        "components": {"schemas": _schemas(service), **_security(service)},
        **({"security": [{"token": []}]} if service.options.token else {}),
    }


def _refusals(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {"description": _WHY[status], "content": {"application/json": {"schema": _ERROR}}}
        for status in (*statuses, 401, 421, 503)
    }


def _answer(text: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _read(text: str, schema: str, *own: int) -> dict[str, Any]:
    """Return a GET operation; the statuses `own` have the answer's own schema."""
    found = {"$ref": f"#/components/schemas/{schema}"}
    answers = {str(status): _answer(text, "application/json", found) for status in (200, *own)}
    return {"summary": text, "responses": {**_refusals(), **answers}}


def _text(text: str, kind: str) -> dict[str, Any]:
    return {
        "summary": text,
        "responses": {"200": _answer(text, kind, {"type": "string"}), **_refusals()},
    }


def _infer() -> dict[str, Any]:
    asked, said = ({"$ref": f"#/components/schemas/{name}"} for name in ("InferRequest", "InferResponse"))
    length = {
        "name": HEADER, "in": "header", "required": False, "schema": {"type": "integer", "minimum": 0},
        "description": "How many bytes of the body are its JSON, where binary tensors follow.",
    }  # fmt: skip
    answer = _answer("The model's answer.", "application/json", said)
    answer["content"]["application/octet-stream"] = {"schema": {}}
    answer["headers"] = {HEADER: {"schema": {"type": "string"}, "description": "as in the request"}}
    return {
        "summary": "Answers to images that come as tensors.",
        "parameters": [length],
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {"200": answer, **_refusals(400, 408, 413, 415, 422, 502)},
    }


def _region() -> dict[str, Any]:
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
    found = _read("Where the answer to a rejected input sits; each number is in /state.", "Region")
    return {**found, "parameters": [number], "responses": {**found["responses"], **_refusals(404, 502)}}


def _classify() -> dict[str, Any]:
    said = {"$ref": "#/components/schemas/Classified"}
    picture: dict[str, Any] = {"schema": {}}
    return {
        "summary": "The answer to one picture.",
        "requestBody": {"required": True, "content": {"image/png": picture, "image/jpeg": picture}},
        "responses": {
            "200": _answer("The answer.", "application/json", said),
            **_refusals(400, 408, 413, 415, 422, 502),
        },
    }


def _security(service: Service) -> dict[str, Any]:
    if service.options.token is None:
        return {}
    return {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


def _schemas(service: Service) -> dict[str, Any]:
    intake = service.intake
    text, whole = {"type": "string"}, {"type": "integer"}
    number = {"type": ["number", "null"]}
    sides: dict[str, Any] = {"type": "array", "items": whole, "maxItems": 8}
    fixed = [
        {"type": "integer", "minimum": 1, "maximum": intake.most} if side == -1 else {"const": side}
        for side in intake.shape
    ]
    tensor = {"name": text, "datatype": text, "shape": sides}
    output = _object("name datatype shape", **tensor, data={"type": "array"}, parameters={"type": "object"})
    described = {"type": "array", "items": _object("name datatype shape", **tensor)}
    data = {"type": "array", "items": {"type": "number"}, "description": "flat, or nested like the shape"}
    asked = _object(
        "name datatype shape data",
        name={"const": intake.name},
        datatype={"enum": list(intake.datatypes)},
        shape={"type": "array", "prefixItems": fixed, "minItems": len(fixed), "maxItems": len(fixed)},
        data=data,
    )
    wanted = {"enum": [one["name"] for one in service.metadata()["outputs"]]}
    return {
        "Error": _object("error", error=text),
        "Live": _object("live", live={"type": "boolean"}),
        "Ready": _object("ready", ready={"type": "boolean"}),
        "Server": _object(
            "name version extensions", name=text, version=text, extensions={"type": "array", "items": text}
        ),
        "Model": _object(
            "name versions inputs outputs", name=text, versions={"type": "array", "items": text},
            platform=text, inputs=described, outputs=described, parameters={"type": "object"},
        ),
        "State": {"type": "object"},
        "Region": _object(
            "region", region={"type": ["object", "null"]}, without=text, removed=number, carried=number
        ),
        "InferRequest": _object(
            "inputs",
            id={"type": "string", "maxLength": 200},
            inputs={"type": "array", "items": asked, "minItems": 1, "maxItems": 1},
            outputs={"type": "array", "items": _object("name", name=wanted), "maxItems": 32},
        ),
        "InferResponse": _object(
            "model_name model_version outputs", model_name=text, model_version=text, id=text,
            outputs={"type": "array", "items": output},
        ),
        "Classified": _object(
            "label class_name probability", label=whole, class_name=text, probability=number, score=number,
            boundary=number, verdict=text, reason=text,
        ),
    }  # fmt: skip
