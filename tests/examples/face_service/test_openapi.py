"""The OpenAPI document says what the service does."""

from __future__ import annotations

from typing import Any

import pytest

from face_service.errors import Code
from face_service.testing import Service

DOCUMENT_CODES = """
    PHOTO_FILE_REQUIRED INVALID_FILE_FORMAT PHOTO_FILE_NOT_FOUND NO_FACE_IN_PHOTO MULTIPLE_FACES_DETECTED
    LOW_QUALITY_FACE IMAGE_PROCESSING_FAILED SESSION_ALREADY_EXISTS ALL_CAMERAS_FAILED SESSION_NOT_FOUND
    STOP_SESSION_FAILED INTERNAL_ERROR
"""


@pytest.fixture
def document(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.ask("GET", "/openapi.json", key=None).json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_is_there(document: dict[str, Any]) -> None:
    """And no other."""
    assert set(operations(document)) == {
        "POST /embeddings/generate",
        "GET /people",
        "GET /people/{personId}",
        "DELETE /people/{personId}",
        "POST /people/{personId}/photos",
        "POST /sessions",
        "GET /sessions",
        "GET /sessions/{slotId}",
        "POST /sessions/{slotId}/stop",
        "GET /cameras/{cameraId}",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
    }


def test_the_documents_codes_are_all_there(document: dict[str, Any]) -> None:
    """The twelve of the classroom document, and our own behind them."""
    codes = document["components"]["schemas"]["Code"]["enum"]
    assert codes[:12] == DOCUMENT_CODES.split()
    assert codes == [code.value for code in Code]


def test_the_documents_statuses_are_all_there(document: dict[str, Any]) -> None:
    """200, 400, 401, 404, 409, 422, 500 and 501, and those that uploads and time bring."""
    found = {status for operation in operations(document).values() for status in operation["responses"]}
    assert {"200", "400", "401", "404", "409", "422", "500", "501"} <= found
    assert found - {"200", "400", "401", "404", "409", "422", "500", "501"} == {"408", "413", "415", "503"}


def test_keys_are_described(document: dict[str, Any]) -> None:
    """Whatever is not health names the scheme and the answer to a bad key."""
    scheme = document["components"]["securitySchemes"]["APIKeyHeader"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-API-Key")
    for name, operation in operations(document).items():
        private = "/health" not in name
        assert ("security" in operation) is private
        assert ("401" in operation["responses"]) is private


def test_an_invalid_request_is_described_as_it_is_answered(document: dict[str, Any]) -> None:
    """Without the framework's input and context."""
    schemas = document["components"]["schemas"]
    assert set(schemas["Detail"]["properties"]) == {"type", "loc", "msg"}
    assert set(schemas["InvalidBody"]["properties"]) == {"detail", "message"}
    assert "HTTPValidationError" not in schemas


def test_a_photo_is_required(document: dict[str, Any]) -> None:
    """The form has a file and a whole number, both of them."""
    content = operations(document)["POST /embeddings/generate"]["requestBody"]["content"]
    assert list(content) == ["multipart/form-data"]
    schema = document["components"]["schemas"][content["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]]
    assert set(schema["required"]) == {"photo", "submissionId"}
    assert schema["properties"]["submissionId"]["type"] == "integer"
