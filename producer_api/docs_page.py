"""`/openapi.json` and `/docs`: the contract in schemas/http/openapi.yaml, as JSON and as a page without scripts."""

import json
from html import escape
from importlib import resources
from typing import Any, Final

import yaml
from aiohttp import web

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f4f4f4;padding:.1rem .3rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}"
)


def contract() -> dict[str, Any]:
    """Return the OpenAPI document of both HTTP services."""
    text = (resources.files("schemas") / "http" / "openapi.yaml").read_text("utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def add_routes(app: web.Application) -> None:
    """Serve the contract."""
    document = contract()
    as_json, as_page = json.dumps(document).encode(), page(document).encode()

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=as_json, content_type="application/json")

    async def docs(_request: web.Request) -> web.Response:
        return web.Response(body=as_page, content_type="text/html", charset="utf-8")

    app.router.add_get("/openapi.json", openapi)
    app.router.add_get("/docs", docs)


def page(document: dict[str, Any]) -> str:
    """Return the document as one HTML page that loads nothing."""
    info = document["info"]
    parts = [f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>", _paragraphs(info.get("description", ""))]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(document, f"{method.upper()} {path}", operation))
    body = "\n".join(parts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>"
        f"<style>{_STYLE}</style><body>{body}<p>The same as <a href=openapi.json>OpenAPI 3.1</a>.</body></html>"
    )


def _operation(document: dict[str, Any], heading: str, operation: dict[str, Any]) -> str:
    parts = [f"<h2><code>{escape(heading)}</code></h2>", _paragraphs(operation.get("summary", ""))]
    parts.append(_paragraphs(operation.get("description", "")))
    fields = [
        (p["name"], p["in"], p.get("description", ""))
        for p in (_resolved(document, p) for p in operation.get("parameters", ()))
    ]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = _resolved(document, content["schema"])
        fields += [
            (n, media_type, _resolved(document, s).get("description", "")) for n, s in schema["properties"].items()
        ]
    if fields:
        parts.append(_table(("Field", "In", "Meaning"), fields))
    answers = [
        (status, _resolved(document, response)["description"]) for status, response in operation["responses"].items()
    ]
    return "\n".join([*parts, _table(("Status", "Meaning"), answers)])


def _resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    titles = "".join(f"<th>{escape(title)}" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}" for cell in row) for row in rows)
    return f"<table><tr>{titles}{lines}</table>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.strip().split("\n\n") if part)
