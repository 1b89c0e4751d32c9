"""The description of the calls, OpenAPI 3.1: https://spec.openapis.org/oas/v3.1.0."""

from typing import Any

from fastapi import FastAPI

_FIELDS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "a name of /v1/models (default: the first)"},
    "products": {
        "type": "string", "default": "ids",
        "description": "what to answer, separated by commas: ids, colour, overlay, confidence, "
        "entropy, probabilities, class:NAME, polygons, table, image; with a dot and a format where "
        "there are several: ids.npy, colour.jpg, polygons.coco",
    },
    "format": {
        "type": "string", "enum": ["auto", "json"], "default": "auto",
        "description": "auto: one product is answered as its file, several as JSON; json: always "
        "JSON",
    },
    "strength": {"type": "number", "default": 0.45, "description": "tint of overlay, 0 to 1"},
    "outlines": {"type": "boolean", "default": False, "description": "overlay without a tint"},
    "legend": {"type": "boolean", "default": True, "description": "a legend below colour, overlay"},
    "min_area": {"type": "number", "default": 0, "description": "smaller regions are no polygons"},
    "simplify": {"type": "number", "default": 0, "description": "how far outlines may move"},
}  # fmt: skip
_FILE = {"type": "string", "format": "binary"}
_IMAGE = {**_FILE, "description": "PNG, JPEG, TIFF, BMP, GIF, WebP or NPY"}

PREDICT: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "required": False,
         "schema": {k: v for k, v in schema.items() if k != "description"},
         "description": schema["description"]}
        for name, schema in _FIELDS.items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object", "required": ["image"],
                    "properties": {"image": _IMAGE, **_FIELDS},
                }
            },
            "application/octet-stream": {"schema": _IMAGE},
        },
    },
}  # fmt: skip
_REASONS = {
    400: "the form is malformed, or the upload ended too early",
    401: "the token is missing or wrong",
    403: "a page of another host",
    404: "no such model",
    408: "the upload took too long",
    413: "too many bytes or pixels",
    415: "no image",
    422: "the image is damaged, or a field is wrong",
    429: "too many images in work: try again after `Retry-After` seconds",
    503: "no answer in time, or the server is stopping",
}
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}}
ERRORS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the product, or JSON: `model`, `width`, `height`, and `products`: GeoJSON "
        "and tables as they are, files as `{type, base64}`",
        "content": {"image/png": {"schema": _FILE},
                    "application/json": {"schema": {"type": "object"}}},
    },
    **{
        status: {"description": reason, "content": {"application/json": {"schema": _ERROR}}}
        for status, reason in _REASONS.items()
    },
}  # fmt: skip


def complete(app: FastAPI) -> None:
    """Add the token to the description, and leave out what this server never answers."""
    tree = app.openapi()
    for name in ("HTTPValidationError", "ValidationError"):
        tree.get("components", {}).get("schemas", {}).pop(name, None)
    tree["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
    tree["security"] = [{}, {"token": []}]
