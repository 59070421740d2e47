"""The table of `docfleet classify`."""

from typing import Any

from docfleet.commands.table import rendered, rows_of

RESULT = {
    "classification": "invoice",
    "confidence": 0.91234,
    "total_pages": 12,
    "processed_pages": 4,
    "scores": {"invoice": 0.91234, "letter": 0.05, "menu": 0.03766},
    "page_results": [
        {
            "page": 1,
            "success": True,
            "classification": "letter",
            "confidence": 0.5,
            "scores": {"letter": 0.5, "menu": 0.5},
        },
        {"page": 2, "success": False, "error": "The page is broken.", "classification": "invoice", "confidence": 0},
    ],
}


def job(**changes: Any) -> dict[str, Any]:
    return {"status": "completed", "error": None, "error_code": None, "result": RESULT, **changes}


def test_row_has_the_answer_and_its_runner_up() -> None:
    assert rows_of("a.pdf", job(), with_pages=False) == [("a.pdf", "invoice", "0.912", "4/12", "letter 0.050")]


def test_pages_follow_their_document_when_asked_for() -> None:
    _, first, second = rows_of("a.pdf", job(), with_pages=True)
    assert first == ("  page 1", "letter", "0.500", "", "menu 0.500")
    assert second == ("  page 2", "failed", "", "", "The page is broken.")


def test_failed_document_says_why() -> None:
    failed = job(status="failed", result=None, error="The file needs a password.", error_code="PASSWORD_REQUIRED")
    (row,) = rows_of("a.pdf", failed, with_pages=True)
    assert row == ("a.pdf", "failed", "", "", "The file needs a password. (PASSWORD_REQUIRED)")


def test_image_has_one_page() -> None:
    image = {"classification": "menu", "confidence": 1.0, "total_pages": 1, "scores": {"menu": 1.0}}
    assert rows_of("a.png", job(result=image), with_pages=True) == [("a.png", "menu", "1.000", "1/1", "")]


def test_columns_line_up_in_any_language() -> None:
    text = rendered([("請求書.pdf", "x", "0.5", "1/1", "y"), ("re\u0301sume\u0301.pdf", "x", "0.5", "1/1", "y")])
    wide, combined = text.splitlines()[1:]
    assert wide.index("x") + 3 == combined.index("x") - 2  # 3 wide characters; 2 that take no column


def test_terminal_codes_in_a_file_name_are_not_sent_to_the_terminal() -> None:
    assert "\x1b" not in rendered([("\x1b[2Jevil.pdf", "x", "", "", "")])


def test_answer_that_a_person_should_look_at_says_so() -> None:
    doubtful = RESULT | {"classification": "none_of_these", "review": True, "page_results": []}
    (row,) = rows_of("a.pdf", job(result=doubtful), with_pages=False)
    assert row[1] == "none_of_these (review)"
    (row,) = rows_of("a.pdf", job(result=RESULT | {"review": False}), with_pages=False)
    assert row[1] == "invoice"


def test_what_decided_follows_each_page() -> None:
    evidence = {
        "channels": {"cues": 2.31, "look": -0.12},
        "phrases": [{"text": "amount due", "box": [0.1, 0.2, 0.3, 0.4]}],
    }
    first, failed = RESULT["page_results"]  # type: ignore[misc]
    asked = RESULT | {"page_results": [first | {"evidence": evidence}, failed]}
    _, page, because, second = rows_of("a.pdf", job(result=asked), with_pages=False)
    assert (page[0], second[0]) == ("  page 1", "  page 2")
    assert because == ("  because", "", "", "", 'cues +2.3, look -0.1, "amount due"')


def test_picture_without_evidence_to_show_says_so() -> None:
    image = {"classification": "menu", "confidence": 1.0, "total_pages": 1, "scores": {"menu": 1.0}}
    asked = image | {"evidence": {"channels": {}, "phrases": []}}
    _, because = rows_of("a.png", job(result=asked), with_pages=False)
    assert because[4] == "nothing stood out"
