"""A picture through Pillow: JPEG, PNG, GIF, WebP, BMP and TIFF become pages as a PDF does.

A TIFF with several frames is a document of pages; an animated GIF or WebP counts its first frame.
Pixels are decoded no larger than OCR needs them where the format can do that (JPEG), and a picture
with more than `PIXELS_MAX` pixels is refused before anything is decoded.
"""

import warnings
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from classifier_worker.core.page import Box, Page, Structure
from classifier_worker.reader import ink, ocr
from classifier_worker.reader.pages import PageFault
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError, ErrorCode

#: 100 megapixels, A3 at 600 dpi with room to spare; 400 MB once decoded as RGB (Pillow keeps 4 bytes a pixel).
PIXELS_MAX: Final = 100_000_000
_POINTS_PER_INCH: Final = 72
_DPI_RANGE: Final = (36.0, 4800.0)

Image.MAX_IMAGE_PIXELS = None  # the check is ours: Pillow only warns up to twice its limit


class OpenPicture:
    """A picture, or the frames of a TIFF."""

    def __init__(self, file: BinaryIO, name: str, request: ReadRequest) -> None:
        self._request = request
        self._name = name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # odd metadata is no concern of the reader
                self._image = Image.open(file, formats=[name])
                frames = int(getattr(self._image, "n_frames", 1)) if name == "TIFF" else 1
        except UnidentifiedImageError as error:
            raise DocfleetError(
                ErrorCode.UNREADABLE_DOCUMENT, f"The file starts like a {name} picture, but the rest is damaged."
            ) from error
        except MemoryError:
            raise
        except Exception as error:
            raise DocfleetError(
                ErrorCode.UNREADABLE_DOCUMENT, f"The {name} picture could not be opened: {_reason(error)}."
            ) from error
        if frames < 1:
            raise DocfleetError(ErrorCode.NO_PAGES, "The TIFF has no frames.")
        if frames == 1:
            _check_pixels(self._image.size)
        self.total_pages = frames
        self.is_image = frames == 1

    def page(self, number: int) -> Page:
        """Decode frame `number`: the look image, and the text by OCR when it is asked for."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._read(number)
        except (MemoryError, PageFault):
            raise
        except DocfleetError as error:
            raise PageFault(error.sentence) from error
        except Exception as error:
            raise PageFault(f"The {self._name} picture could not be decoded: {_reason(error)}.") from error

    def close(self) -> None:
        """Let Pillow forget the picture."""
        self._image.close()

    def _read(self, number: int) -> Page:
        if not self.is_image:
            self._image.seek(number - 1)
        _check_pixels(self._image.size)
        work = _decode(self._image)
        width_points, height_points = _points(self._image, work)
        look = np.asarray(_fit(work, self._request.image_px))
        seen = ocr.Seen()
        if self._request.ocr and not ink.is_blank(look):
            seen = ocr.read_page(np.asarray(work), share=ocr.share_of(number))
            look = np.ascontiguousarray(np.rot90(look, seen.quarter_turns))
            if seen.quarter_turns % 2:
                width_points, height_points = height_points, width_points
        whole = Box(left=0.0, top=0.0, right=1.0, bottom=1.0)
        return Page(
            number=number,
            width_points=width_points,
            height_points=height_points,
            text="\n".join(line.text for line in seen.lines),
            text_source="ocr" if seen.lines else "none",
            lines=seen.lines,
            structure=Structure(images=(whole,)) if number <= self._request.structure_pages else None,
            image=look,
            legibility=seen.legibility,
            ocr_seconds=seen.seconds,
        )


def _check_pixels(size: tuple[int, int]) -> None:
    width_px, height_px = size
    if width_px < 1 or height_px < 1:
        raise DocfleetError(ErrorCode.UNREADABLE_DOCUMENT, f"The picture is {width_px} x {height_px} pixels large.")
    if width_px * height_px > PIXELS_MAX:
        raise DocfleetError(
            ErrorCode.DOCUMENT_TOO_COMPLEX,
            f"The picture is {width_px} x {height_px} pixels large; at most {PIXELS_MAX:,} pixels are read.",
        )


def _decode(image: Image.Image) -> Image.Image:
    """Return RGB pixels, upright as EXIF says, on white, the long side no longer than OCR wants it."""
    work_px = ocr.page_px(*image.size)
    image.draft("RGB", (work_px, work_px))  # JPEG decodes at 1/2, 1/4 or 1/8; never below the size given
    image.load()
    small: Image.Image = image
    factor = max(image.size) // work_px
    if image.mode in ("1", "P", "PA") and factor > 1:
        small = small.convert("L" if image.mode == "1" else "RGBA")
    if small.mode.startswith("I") or small.mode == "F":
        small = _eight_bits(small)
    if factor > 1:
        small = small.reduce(factor)
    if small.mode == "P":
        small = small.convert("RGBA" if "transparency" in image.info else "RGB")
    if small.mode in ("LA", "PA", "La", "RGBa") or (small.mode in ("L", "RGB") and "transparency" in image.info):
        small = small.convert("RGBA")
    if small.mode == "RGBA":
        paper = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(paper, small)
    if small.mode != "RGB":
        small = small.convert("RGB")
    orientation = image.getexif().get(0x0112, 1)
    turn = _EXIF_TURNS.get(orientation)
    return _fit(small if turn is None else small.transpose(turn), work_px)


#: EXIF tag Orientation -> what sets the picture upright (TIFF 6.0, page 36)
_EXIF_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return 16 bit, 32 bit and float grey as 8 bit, stretched to the range that the picture uses."""
    grey: NDArray[np.float32] = np.asarray(image, np.float32)
    grey = np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(float(grey.min()), 0.0), float(grey.max())
    return Image.fromarray(((grey - low) * (255.0 / max(high - low, 1e-9))).astype(np.uint8))


def _fit(image: Image.Image, long_side_px: int) -> Image.Image:
    """Return the picture with its long side at most `long_side_px`; it is never enlarged."""
    long_side = max(image.size)
    if long_side <= long_side_px:
        return image
    width_px = max(round(image.width * long_side_px / long_side), 1)
    height_px = max(round(image.height * long_side_px / long_side), 1)
    return image.resize((width_px, height_px), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _points(image: Image.Image, upright: Image.Image) -> tuple[float, float]:
    """Return width and height in points at the resolution that the file states, else at 72 pixels an inch."""
    width_px, height_px = image.size
    if (width_px > height_px) != (upright.width > upright.height):
        width_px, height_px = height_px, width_px
    try:
        dpi = float(image.info["dpi"][0])
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        dpi = float(_POINTS_PER_INCH)
    if not _DPI_RANGE[0] <= dpi <= _DPI_RANGE[1]:
        dpi = float(_POINTS_PER_INCH)
    return width_px * _POINTS_PER_INCH / dpi, height_px * _POINTS_PER_INCH / dpi


def _reason(error: Exception) -> str:
    """Return Pillow's own words without the object addresses and the length that some of them have."""
    return str(error).split(" <", 1)[0].strip(" .")[:200] or type(error).__name__
