"""Documents for tests and benchmarks, made here: PDFs written by hand, pictures by Pillow.

Every function returns the bytes of a whole file, except those that write a file too large for that.
"""

import io
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image, ImageDraw, ImageFont, features

A4: Final = (595.0, 842.0)
LOREM: Final = (
    "The parties agree that the supplier delivers the goods listed below to the place named in the order. "
    "Payment is due within thirty days of the date of the invoice. Late payment bears interest. "
)
INVOICE: Final = "INVOICE\nInvoice number 2024-117\nBill to Example Ltd\nTotal due 1,250.00 EUR\n" + "\n".join(
    LOREM[start : start + 70] for start in range(0, len(LOREM), 70)
)


class PdfWriter:
    """Writes a PDF object by object to a stream, with a classic cross-reference table at its end."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._position = 0
        self._offsets: dict[int, int] = {}
        self._write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._position += len(data)

    def put(self, number: int, body: bytes) -> None:
        """Write object `number`."""
        self._offsets[number] = self._position
        self._write(b"%d 0 obj\n" % number + body + b"\nendobj\n")

    def put_stream(self, number: int, data: bytes, entries: bytes = b"") -> None:
        """Write a stream object; `entries` go into its dictionary."""
        self.put(number, b"<< /Length %d %s >>\nstream\n" % (len(data), entries) + data + b"\nendstream")

    def finish(self, root: int = 1, trailer: bytes = b"") -> None:
        """Write the cross-reference table and the trailer."""
        start, size = self._position, max(self._offsets) + 1
        rows = [b"0000000000 65535 f \n"]
        for number in range(1, size):
            offset = self._offsets.get(number)
            rows.append(b"0000000000 65535 f \n" if offset is None else b"%010d 00000 n \n" % offset)
        self._write(b"xref\n0 %d\n" % size + b"".join(rows))
        self._write(b"trailer\n<< /Size %d /Root %d 0 R %s >>\n" % (size, root, trailer))
        self._write(b"startxref\n%d\n%%%%EOF\n" % start)


def _escape(text: str) -> bytes:
    return text.encode("latin-1", "replace").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def text_content(text: str, size: tuple[float, float] = A4, *, extra: bytes = b"") -> bytes:
    """Return a content stream: the first line large and bold, the others below it; `extra` drawing comes first."""
    first, *rest = text.split("\n")
    lines = [b"BT /F2 24 Tf 60 %g Td (%s) Tj ET" % (size[1] - 80, _escape(first))]
    y = size[1] - 120
    for line in rest:
        lines.append(b"BT /F1 11 Tf 60 %g Td (%s) Tj ET" % (y, _escape(line)))
        y -= 15
    return extra + b"\n" + b"\n".join(lines)


#: Two rules and a ruled table of three rows and four columns.
TABLE: Final = b"".join(
    [b"1 w 60 560 m 535 560 l S 60 300 m 535 300 l S\n"]
    + [b"60 %d m 460 %d l S\n" % (y, y) for y in (400, 420, 440, 460)]
    + [b"%d 400 m %d 460 l S\n" % (x, x) for x in (60, 160, 260, 360, 460)]
)


def pdf(
    pages: int = 3, text: str = INVOICE, *, size: tuple[float, float] = A4, rotate: int = 0, extra: bytes = b""
) -> bytes:
    """Return a PDF with a text layer; `{page}` in `text` becomes the page's number."""
    out = io.BytesIO()
    writer = PdfWriter(out)
    kids = b" ".join(b"%d 0 R" % (10 + 2 * index) for index in range(pages))
    writer.put(1, b"<< /Type /Catalog /Pages 2 0 R >>")
    writer.put(2, b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages))
    _put_fonts(writer)
    for index in range(pages):
        content = text_content(text.replace("{page}", str(index + 1)), size, extra=extra)
        _put_page(writer, 10 + 2 * index, size=size, rotate=rotate)
        writer.put_stream(11 + 2 * index, zlib.compress(content), b"/Filter /FlateDecode")
    writer.finish()
    return out.getvalue()


def _put_fonts(writer: PdfWriter) -> None:
    writer.put(3, b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    writer.put(4, b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>")


def _put_page(
    writer: PdfWriter, number: int, *, size: tuple[float, float] = A4, rotate: int = 0, resources: bytes = b""
) -> None:
    writer.put(
        number,
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %.2f %.2f] /Rotate %d /Contents %d 0 R "
        b"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> %s >> >>" % (*size, rotate, number + 1, resources),
    )


def turned_pdf(turned: int, text: str = INVOICE, *, rotate: int = 0) -> bytes:
    """Return a page whose text layer runs counter-clockwise by `turned` degrees, the paper turned with it."""
    width, height = A4
    matrix, size = {
        0: (b"1 0 0 1 0 0", A4),
        90: (b"0 1 -1 0 %g 0" % height, (height, width)),
        180: (b"-1 0 0 -1 %g %g" % A4, A4),
        270: (b"0 -1 1 0 0 %g" % width, (height, width)),
    }[turned]
    out = io.BytesIO()
    writer = PdfWriter(out)
    writer.put(1, b"<< /Type /Catalog /Pages 2 0 R >>")
    writer.put(2, b"<< /Type /Pages /Kids [10 0 R] /Count 1 >>")
    _put_fonts(writer)
    _put_page(writer, 10, size=size, rotate=rotate)
    writer.put_stream(11, matrix + b" cm\n" + text_content(text))
    writer.finish()
    return out.getvalue()


def scanned_pdf(
    picture: Image.Image | None = None, *, pages: int = 1, turned: int = 0, stamp: str | None = None
) -> bytes:
    """Return a PDF whose pages are a JPEG, turned counter-clockwise by `turned` degrees, and perhaps a text stamp."""
    picture = (picture or page_picture()).rotate(turned, expand=True)
    jpeg = encoded(picture.convert("RGB"), "JPEG")
    size = (picture.width * 72 / 150, picture.height * 72 / 150)
    out = io.BytesIO()
    writer = PdfWriter(out)
    writer.put(1, b"<< /Type /Catalog /Pages 2 0 R >>")
    kids = b" ".join(b"%d 0 R" % (10 + 2 * index) for index in range(pages))
    writer.put(2, b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages))
    _put_fonts(writer)
    writer.put_stream(
        5,
        jpeg,
        b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB /BitsPerComponent 8 "
        b"/Filter /DCTDecode" % picture.size,
    )
    for index in range(pages):
        _put_page(writer, 10 + 2 * index, size=size, resources=b"/XObject << /Im 5 0 R >>")
        stamped = b"" if stamp is None else b" BT /F1 8 Tf 20 10 Td (%s) Tj ET" % _escape(stamp)
        writer.put_stream(11 + 2 * index, b"q %.2f 0 0 %.2f 0 0 cm /Im Do Q" % size + stamped)
    writer.finish()
    return out.getvalue()


def page_picture(text: str = INVOICE, size_px: tuple[int, int] = (1240, 1754)) -> Image.Image:
    """Return a white page with dark text, as a scanner at 150 dpi would give it."""
    picture = Image.new("RGB", size_px, "white")
    draw = ImageDraw.Draw(picture)
    scale = size_px[0] / 1240
    y = 100 * scale
    for index, line in enumerate(text.split("\n")):
        height = (60 if index == 0 else 26) * scale
        draw.text((100 * scale, y), line, fill=(20, 20, 20), font=ImageFont.load_default(height))
        y += height * 1.6
    return picture


def encoded(picture: Image.Image, name: str, **options: object) -> bytes:
    """Return the picture in one of Pillow's formats."""
    out = io.BytesIO()
    picture.save(out, name, **options)
    return out.getvalue()


def pictures(text: str = INVOICE) -> dict[str, bytes]:
    """Return the same page in each supported picture format, by Pillow's name of it."""
    picture = page_picture(text, (620, 877))
    names = ["JPEG", "PNG", "GIF", "BMP", "TIFF", *(["WEBP"] if features.check("webp") else [])]
    return {name: encoded(picture, name) for name in names}


def tiff(pages: int = 3, text: str = "TIFF PAGE {page}", *, compression: str = "tiff_lzw") -> bytes:
    """Return a TIFF with a frame for each page."""
    frames = [page_picture(text.replace("{page}", str(index + 1)), (620, 877)) for index in range(pages)]
    return encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression=compression)


def encrypted_pdf(*, user_password: bytes = b"secret", owner_password: bytes = b"owner") -> bytes:
    """Return a PDF under the standard security handler, revision 2 (RC4, 40 bit; ISO 32000-1, 7.6.3).

    With an empty user password only its owner's rights are protected, and anybody can read it.
    """
    import hashlib

    padding = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
    file_id = bytes(range(16))
    permissions = (-64).to_bytes(4, "little", signed=True)

    def padded(password: bytes) -> bytes:
        return (password + padding)[:32]

    owner = _rc4(hashlib.md5(padded(owner_password)).digest()[:5], padded(user_password))
    key = hashlib.md5(padded(user_password) + owner + permissions + file_id).digest()[:5]
    user = _rc4(key, padding)
    content = text_content(INVOICE)
    object_key = hashlib.md5(key + (11).to_bytes(3, "little") + b"\x00\x00").digest()[:10]
    out = io.BytesIO()
    writer = PdfWriter(out)
    writer.put(1, b"<< /Type /Catalog /Pages 2 0 R >>")
    writer.put(2, b"<< /Type /Pages /Kids [10 0 R] /Count 1 >>")
    _put_fonts(writer)
    _put_page(writer, 10)
    writer.put_stream(11, _rc4(object_key, content))
    writer.put(
        12, b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -64 >>" % (owner.hex().encode(), user.hex().encode())
    )
    writer.finish(trailer=b"/Encrypt 12 0 R /ID [<%s> <%s>]" % (file_id.hex().encode(), file_id.hex().encode()))
    return out.getvalue()


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    result, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        result.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(result)


def png_bomb(side_px: int = 60_000) -> bytes:
    """Return a small PNG that claims, and would decode to, side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side_px.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff_bomb(side_px: int = 60_000) -> bytes:
    """Return a TIFF header that claims side x side grey pixels in one strip of nearly no bytes."""
    strip = zlib.compress(bytes(1 << 16), 9)
    entries = [
        (256, 4, side_px), (257, 4, side_px), (258, 3, 8), (259, 3, 8), (262, 3, 1),
        (273, 4, 8), (277, 3, 1), (278, 4, side_px), (279, 4, len(strip)),
    ]  # fmt: skip
    ifd = len(entries).to_bytes(2, "little")
    for tag, kind, value in entries:
        ifd += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + b"\x01\0\0\0" + value.to_bytes(4, "little")
    return b"II*\x00" + (8 + len(strip)).to_bytes(4, "little") + strip + ifd + b"\0\0\0\0"


def deep_pdf(depth: int = 200_000) -> bytes:
    """Return a PDF whose page has an array nested `depth` times, which overflows the stack of naive parsers."""
    out = io.BytesIO()
    writer = PdfWriter(out)
    writer.put(1, b"<< /Type /Catalog /Pages 2 0 R >>")
    writer.put(2, b"<< /Type /Pages /Kids [10 0 R] /Count 1 >>")
    writer.put(10, b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 11 0 R /Deep 12 0 R >>")
    writer.put_stream(11, b"[" * depth + b"]" * depth + b" TJ")
    writer.put(12, b"[" * depth + b"]" * depth)
    writer.finish()
    return out.getvalue()


def slow_pdf(shapes: int = 150_000) -> bytes:
    """Return a small PDF with one page painted over so often that drawing it takes a minute or so."""
    out = io.BytesIO()
    writer = PdfWriter(out)
    writer.put(1, b"<< /Type /Catalog /Pages 2 0 R >>")
    writer.put(2, b"<< /Type /Pages /Kids [10 0 R] /Count 1 >>")
    _put_fonts(writer)
    _put_page(writer, 10)
    shape = b"400 w 0 0 m 595 842 0 842 595 0 c 9 9 300 200 842 842 c S\n"
    writer.put_stream(11, zlib.compress(shape * shapes), b"/Filter /FlateDecode")
    writer.finish()
    return out.getvalue()


def swelling_pdf(megabytes: int = 4_000) -> bytes:
    """Return a PDF of about `megabytes` x 2 KB whose one content stream unpacks to that many megabytes of paths."""
    packer = zlib.compressobj(9)
    shape = b"0 0 m 9 9 l S\n"
    start = packer.compress(b"q Q\n") + packer.flush(zlib.Z_FULL_FLUSH)
    # a full flush makes a block independent of what was before it, so that copies of it can be strung together
    block = packer.compress(shape * ((1 << 20) // len(shape))) + packer.flush(zlib.Z_FULL_FLUSH)
    out = io.BytesIO()
    writer = PdfWriter(out)
    writer.put(1, b"<< /Type /Catalog /Pages 2 0 R >>")
    writer.put(2, b"<< /Type /Pages /Kids [10 0 R] /Count 1 >>")
    _put_fonts(writer)
    _put_page(writer, 10)
    writer.put_stream(11, start + block * megabytes + packer.flush(), b"/Filter /FlateDecode")
    writer.finish()
    return out.getvalue()


def write_long_pdf(path: Path, *, pages: int = 5_000, page_bytes: int = 84_000) -> int:
    """Write a PDF whose pages each carry `page_bytes` of incompressible picture; return its size (420 MB)."""
    width, height = 200, max(page_bytes // 600, 1)
    noise = _noise(page_bytes + 65_536)
    with path.open("wb") as out:
        writer = PdfWriter(out)
        kids = b" ".join(b"%d 0 R" % (10 + 3 * index) for index in range(pages))
        writer.put(1, b"<< /Type /Catalog /Pages 2 0 R >>")
        writer.put(2, b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages))
        _put_fonts(writer)
        for index in range(pages):
            number = 10 + 3 * index
            text = INVOICE.replace("INVOICE", f"INVOICE, page {index + 1}")
            content = b"q 200 0 0 100 200 60 cm /Im Do Q\n" + text_content(text)
            _put_page(writer, number, resources=b"/XObject << /Im %d 0 R >>" % (number + 2))
            writer.put_stream(number + 1, zlib.compress(content), b"/Filter /FlateDecode")
            start = index * 13 % 65_536
            writer.put_stream(
                number + 2,
                noise[start : start + width * height * 3],
                b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB /BitsPerComponent 8"
                % (width, height),
            )
        writer.finish()
    return path.stat().st_size


def _noise(count: int) -> bytes:
    import hashlib

    blocks = [hashlib.sha256(index.to_bytes(4, "big")).digest() for index in range(-(-count // 32))]
    return b"".join(blocks)[:count]
