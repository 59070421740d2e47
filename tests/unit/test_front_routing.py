"""Which service answers which method and path."""

import pytest

from docfleet.stack.front import Front

PRODUCER, STATUS = "http://producer", "http://status"


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("POST", "/classify", PRODUCER),
        ("PUT", "/classify", PRODUCER),
        ("DELETE", "/classify", PRODUCER),
        ("GET", "/classify", STATUS),
        ("HEAD", "/classify", STATUS),
        ("GET", "/classify/4b3ba5ac", STATUS),
        ("DELETE", "/classify/4b3ba5ac", STATUS),
        ("POST", "/classify/4b3ba5ac/cancel", STATUS),
        ("GET", "/classifyx", PRODUCER),
        ("GET", "/openapi.json", PRODUCER),
        ("GET", "/docs", PRODUCER),
        ("GET", "/metrics", PRODUCER),
        ("GET", "/healthz/live", PRODUCER),
        ("GET", "/", PRODUCER),
    ],
)
def test_method_and_path_choose_the_service(method: str, path: str, service: str) -> None:
    front = Front(producer_api=PRODUCER, status_service=STATUS)
    assert front._behind(method, path) == service
