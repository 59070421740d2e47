"""How much producer_api grows while it takes in one 500 MB document.

    python -m benchmarks.upload [--megabytes 500]

A small POST warms it up; then the peak of its resident size (VmHWM, reset first) over one POST is
compared with its size before. The GCS-protocol server holds several times the
document in memory, so this needs about 4 GB. Aim: less than 64 MB.
"""

import argparse
import http.client
import json
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ingress import Ingress, ingress
from benchmarks.running import peak_bytes

MOST_GROWTH_BYTES = 64 * 1024 * 1024
BOUNDARY = "docfleet-benchmark"
_PIECE = bytes(range(256)) * 256  # 64 KiB


def post_large(running: Ingress, size_bytes: int) -> None:
    """POST a document of `size_bytes` that starts as a PDF, without holding it here either."""
    categories = json.dumps([{"name": "manual"}, {"name": "report"}])
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="categories"\r\n\r\n{categories}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="pdf_file"; filename="large.pdf"\r\n'
        "Content-Type: application/pdf\r\n\r\n%PDF-1.7\n"
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()

    def body() -> Iterator[bytes]:
        yield head
        left = size_bytes
        while left:
            piece = _PIECE[: min(left, len(_PIECE))]
            left -= len(piece)
            yield piece
        yield tail

    where = urllib.parse.urlsplit(running.url)
    connection = http.client.HTTPConnection(where.netloc, timeout=600)
    headers = {
        "api-key": running.api_key,
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(len(head) + size_bytes + len(tail)),
    }
    connection.request("POST", "/classify", body=body(), headers=headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != http.client.ACCEPTED:
        raise RuntimeError(f"{answer.status}: {said!r}")


def resident_bytes(pid: int) -> int:
    """Return the present resident size of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text("utf-8").split()
    return int(fields[1]) * 4096


def main() -> int:
    """Run and print the growth; return 0 when the aim is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    size_bytes = parser.parse_args().megabytes * 1_000_000
    with ingress() as running:
        pid = running.pids["producer_api"]
        post_large(running, 100_000)
        before = resident_bytes(pid)
        Path(f"/proc/{pid}/clear_refs").write_text("5", "utf-8")  # VmHWM starts again
        post_large(running, size_bytes)
        growth = peak_bytes(pid) - before
    grew = f"{growth / 2**20:.1f} MiB over {before / 2**20:.0f} MiB"
    print(f"POST of {size_bytes / 1e6:.0f} MB: producer_api grew by {grew}")
    print(f"at most {MOST_GROWTH_BYTES / 2**20:.0f} MiB: {'met' if growth < MOST_GROWTH_BYTES else 'missed'}")
    return 0 if growth < MOST_GROWTH_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
