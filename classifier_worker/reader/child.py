"""The process that opens hostile files: `python -m classifier_worker.reader.child <socket> <parent> <memory> <cpu>`.

It holds no credentials and imports no Kafka, store, model or database (a linter contract holds that).
It reads one document after another from its socket, until the socket closes; whatever kills it costs
one document. Limits and isolation are in `sandbox.py`, the language of the socket in `wire.py`.
"""

import logging
import os
import socket
import sys
from typing import Any

from classifier_worker.reader import sandbox, wire


def main(arguments: list[str]) -> int:
    """Serve documents until the parent closes the socket; 0 then."""
    descriptor, parent_pid, memory_bytes, cpu_seconds = (int(argument) for argument in arguments)
    sandbox.leave_network()
    sandbox.die_with(parent_pid)  # after it: a new user namespace clears the parent-death signal
    logging.disable(logging.CRITICAL)  # pdfminer logs what it finds in documents, which is nobody's business
    from classifier_worker.reader import pdf, picture, structure  # noqa: F401 - slow imports before the first document

    sandbox.limit(memory_bytes)
    with socket.socket(fileno=descriptor) as sock:
        channel = wire.Channel(sock)
        channel.send({"kind": "ready"})
        try:
            while True:
                prefix, descriptors, _, _ = socket.recv_fds(sock, wire.PREFIX.size, 1)
                if not prefix:
                    return 0
                header, _ = channel.receive_rest(prefix, 0)
                sandbox.limit_cpu(cpu_seconds)
                try:
                    channel.send(_serve(channel, header, descriptors[0]))
                finally:
                    os.close(descriptors[0])
        except wire.PeerGone:
            return 0


def _serve(channel: wire.Channel, header: wire.Header, descriptor: int) -> wire.Header:
    """Read one document, sending its pages; return the last frame."""
    from classifier_worker.reader import pages, ranges
    from schemas.errors import DocfleetError, ErrorCode

    size_bytes = header["size_bytes"]
    request = wire.ReadRequest(**header["request"])

    def fetch(start: int, end: int) -> bool:
        channel.send({"kind": "need", "start": start, "end": end})
        answer, _ = channel.receive(0)
        return bool(answer["kind"] == "ok")

    def on_page(page: Any) -> None:  # noqa: ANN401 - Page or UnreadPage, told apart by its fields
        if file.is_aborted:
            raise ranges.FetchAborted("the page was read without all of its bytes")
        if hasattr(page, "error"):
            error = page.error[: wire.SENTENCE_CHARS_MAX]
            channel.send({"kind": "unread", "number": page.number, "error": error})
        else:
            wire.send_page(channel, page)

    file: Any = None
    try:
        file = ranges.RangedFile(descriptor, size_bytes, fetch)
        document = pages.open_document(file, size_bytes, request)
        try:
            channel.send({"kind": "opened", "total_pages": document.total_pages, "is_image": document.is_image})
            pages.read_pages(document, request.max_pages, on_page)
        finally:
            document.close()
    except (DocfleetError, MemoryError, OSError) as error:
        if isinstance(error, ranges.FetchAborted) or (file is not None and file.is_aborted):
            return {"kind": "aborted"}
        if isinstance(error, MemoryError):
            sentence = "Reading the document took more memory than a reader may use."
            return {"kind": "failed", "code": ErrorCode.DOCUMENT_TOO_COMPLEX, "sentence": sentence}
        if isinstance(error, DocfleetError):
            return {"kind": "failed", "code": error.code, "sentence": error.sentence[: wire.SENTENCE_CHARS_MAX]}
        raise
    if file.is_aborted:
        return {"kind": "aborted"}
    return {"kind": "done"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
