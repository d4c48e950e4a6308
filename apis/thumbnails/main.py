"""Thumbnails: shrinks and crops uploaded images, to one size or to several at once.

Images come from strangers. What is decoded is bounded by its pixels before any of them is read, and one image is
worked on at a time, so that memory stays bounded however many callers there are.
"""

import io
import warnings
import zipfile
from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, BinaryIO

from fastapi import Depends, FastAPI, File, HTTPException, Query, Response, UploadFile
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel

MAX_PIXELS = 25_000_000
"""Of the uploaded image. Four bytes each once decoded, whatever the file's compression."""

MAX_SIDE = 2_000
"""Of a thumbnail, in pixels."""

MAX_SIZES = 10
"""In one request."""

workbench = ThreadPoolExecutor(max_workers=1)
"""Where images are worked on, one after the other. Resizing fills a core by itself; two at once would only double the
memory. Always the same thread, since the allocator keeps what each thread has freed for that thread alone."""

# We refuse by MAX_PIXELS ourselves, with a better message.
Image.MAX_IMAGE_PIXELS = None
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

app = FastAPI(title="Thumbnails", summary="Shrinks and crops images.", version="1.0.0")


class Fit(StrEnum):
    """What to do where the proportions differ."""

    contain = "contain"
    """Keep the whole image; one side may come out shorter than asked."""

    cover = "cover"
    """Fill the size exactly; crop what protrudes, evenly on both sides."""


class Format(StrEnum):
    """The file format of a thumbnail."""

    webp = "webp"
    jpeg = "jpeg"
    png = "png"

    @property
    def media_type(self) -> str:
        """As HTTP names it."""
        return f"image/{self}"


class Options(BaseModel):
    """How thumbnails are made."""

    fit: Fit = Fit.contain
    format: Format = Format.webp
    quality: Annotated[int, Query(ge=1, le=100, description="Ignored for PNG, which loses nothing.")] = 80


Size = tuple[int, int]
"""Width and height, in pixels."""

Side = Annotated[int, Query(ge=1, le=MAX_SIDE, description="In pixels.")]
Upload = Annotated[UploadFile, File(description="Any image that Pillow reads: JPEG, PNG, WebP, GIF, TIFF, BMP …")]
How = Annotated[Options, Depends()]

PROBLEMS: dict[int | str, dict[str, object]] = {
    413: {"description": f"The image has more than {MAX_PIXELS:,} pixels."},
    415: {"description": "The file is not an image, or it is damaged."},
}


@app.get("/")
def limits() -> dict[str, int]:
    """Tells what is accepted."""
    return {"max_pixels": MAX_PIXELS, "max_side": MAX_SIDE, "max_sizes": MAX_SIZES}


@app.post(
    "/thumbnail",
    response_class=Response,
    responses={200: {"content": {format.media_type: {} for format in Format}}, **PROBLEMS},
)
async def make_one(file: Upload, how: How, width: Side = 200, height: Side = 200) -> Response:
    """Makes one thumbnail, and answers with it."""
    [thumbnail] = await get_running_loop().run_in_executor(workbench, make, file.file, how, [(width, height)])
    return Response(thumbnail, media_type=how.format.media_type)


@app.post(
    "/thumbnails",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "One file for each size."}, **PROBLEMS},
)
async def make_several(
    file: Upload,
    how: How,
    size: Annotated[list[str], Query(min_length=1, max_length=MAX_SIZES, examples=["64x64", "320x240"])],
) -> Response:
    """Makes a thumbnail of each `size`, written as `WIDTHxHEIGHT`, and answers with a ZIP archive of them."""
    sizes = [parse_size(text) for text in dict.fromkeys(size)]
    thumbnails = await get_running_loop().run_in_executor(workbench, make, file.file, how, sizes)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as files:
        for (width, height), thumbnail in zip(sizes, thumbnails, strict=True):
            files.writestr(f"{width}x{height}.{how.format}", thumbnail)
    return Response(
        archive.getvalue(),
        media_type="application/zip",
        headers={"Content-Disposition": 'attachment; filename="thumbnails.zip"'},
    )


def parse_size(text: str) -> Size:
    """Reads `WIDTHxHEIGHT`."""
    width, _, height = text.partition("x")
    if width.isdecimal() and height.isdecimal():
        sides = int(width[:5]), int(height[:5])
        if all(1 <= side <= MAX_SIDE for side in sides):
            return sides
    raise HTTPException(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{text[:40]!r} is not a size; write WIDTHxHEIGHT, each from 1 to {MAX_SIDE}, as in 320x240",
    )


def make(file: BinaryIO, how: Options, sizes: list[Size]) -> list[bytes]:
    """Makes a thumbnail of each size."""
    image = decode(file)
    return [encode(resize(image, size, how.fit), how) for size in sizes]


def decode(file: BinaryIO) -> Image.Image:
    """Decodes an image, upright, in a mode that can be resized well and written in every format of ours."""
    try:
        image: Image.Image = Image.open(file)  # reads the header only
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the image has {pixels:,} pixels; at most {MAX_PIXELS:,} are accepted",
            )
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return image if image.mode == mode else image.convert(mode)
    except UnidentifiedImageError:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the file is not an image that we can read") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow's decoders raise on damaged files
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the image is damaged: {error}") from None


def resize(image: Image.Image, size: Size, fit: Fit) -> Image.Image:
    """A copy of at most `size`; never larger than the image, except where it has to cover."""
    if fit is Fit.cover:
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    width, height = image.size
    scale = min(1.0, size[0] / width, size[1] / height)
    smaller = max(1, round(width * scale)), max(1, round(height * scale))
    return image.resize(smaller, Image.Resampling.LANCZOS, reducing_gap=3.0)


def encode(image: Image.Image, how: Options) -> bytes:
    """The bytes of a file in the format asked for; none of the original's metadata is kept."""
    if how.format is Format.jpeg and image.mode == "RGBA":
        # JPEG knows no transparency. White is what a page would show behind it.
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    out = io.BytesIO()
    image.save(out, how.format, quality=how.quality, exif=b"")
    return out.getvalue()
