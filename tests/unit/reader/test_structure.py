"""Structure stops in time, and says nothing rather than something wrong."""

import pypdfium2
import pytest

from classifier_worker.reader import structure
from tests import documents


# the timer may go off within hypothesis' hook on garbage collection, which cannot raise; it goes off again
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_page_that_takes_too_long_has_no_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"".join(b"%d %d m %d 9 l S\n" % (x % 500, x % 800, x % 300) for x in range(60_000))
    with pypdfium2.PdfDocument(documents.pdf(pages=1, extra=content)) as document:
        monkeypatch.setattr(structure, "WORK_MAX", 10**9)
        monkeypatch.setattr(structure, "PAGE_CPU_SECONDS", 0.05)
        assert structure.structure_of(document, 1, ()) is None


def test_page_with_too_much_drawing_has_no_structure_whatever_the_time() -> None:
    few, many = (b"".join(b"0 %d m 9 %d l S\n" % (y, y) for y in range(count)) for count in (500, 5_000))
    with pypdfium2.PdfDocument(documents.pdf(pages=1, extra=few)) as document:
        assert structure.structure_of(document, 1, ()) is not None
    with pypdfium2.PdfDocument(documents.pdf(pages=1, extra=many)) as document:
        assert structure.structure_of(document, 1, ()) is None


def test_boxes_are_those_of_the_page_as_it_is_shown() -> None:
    with pypdfium2.PdfDocument(documents.pdf(pages=1, extra=documents.TABLE)) as document:
        found = structure.structure_of(document, 1, ("A",))
    assert found is not None
    (table,) = found.tables
    width, height = documents.A4
    assert table.box.left == pytest.approx(60 / width, abs=0.01)
    assert table.box.top == pytest.approx(1 - 460 / height, abs=0.01)
    assert table.box.bottom == pytest.approx(1 - 400 / height, abs=0.01)
    assert found.fonts == ("A",)


def test_empty_page_tree_is_told_apart_from_damage() -> None:
    import io

    assert structure.has_empty_page_tree(io.BytesIO(documents.pdf(pages=0)))
    assert not structure.has_empty_page_tree(io.BytesIO(documents.pdf(pages=1)))
    assert not structure.has_empty_page_tree(io.BytesIO(documents.pdf(pages=0)[:200]))
