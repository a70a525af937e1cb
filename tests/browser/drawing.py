"""What thumbnails of workflows are made of: pictures in a square, cut, paired and captioned."""

from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE = 512
BACKGROUND = (34, 34, 34)


def square(picture: Image.Image) -> Image.Image:
    """Fit a picture into the square of a thumbnail."""
    return ImageOps.pad(picture.convert("RGB"), (SIDE, SIDE), Image.BICUBIC, BACKGROUND)


def halves(before: Image.Image, after: Image.Image) -> Image.Image:
    """Show the left half of one picture and the right half of another."""
    both = square(before)
    both.paste(square(after).crop((SIDE // 2, 0, SIDE, SIDE)), (SIDE // 2, 0))
    ImageDraw.Draw(both).line([(SIDE // 2, 0), (SIDE // 2, SIDE)], "white", 2)
    return both


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Return a row of pictures of one size."""
    row = Image.new("RGB", (sum(p.width for p in pictures), pictures[0].height))
    for number, picture in enumerate(pictures):
        row.paste(picture, (number * picture.width, 0))
    return row


def caption(picture: Image.Image, text: str) -> Image.Image:
    """Write a line or more over the lower edge: ComfyUI puts a badge in the upper left corner."""
    lines, font = [""], ImageFont.load_default(22)
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) < SIDE - 32 else [*lines, word]
    draw = ImageDraw.Draw(picture)
    top = SIDE - 28 * len(lines) - 20
    draw.rectangle([0, top, SIDE, SIDE], BACKGROUND)
    draw.multiline_text((16, top + 8), "\n".join(lines), "white", font, spacing=6)
    return picture


def cut_into_tiles(before: Image.Image, after: Image.Image, count: int = 4) -> Image.Image:
    """Show a picture as separate tiles, the left ones degraded and the right ones restored."""
    drawn, gap, side = Image.new("RGB", (SIDE, SIDE), BACKGROUND), 10, SIDE // count
    halved = halves(before, after)
    for top in range(0, SIDE, side):
        for left in range(0, SIDE, side):
            tile = halved.crop((left, top, left + side, top + side))
            drawn.paste(tile.resize((side - gap, side - gap)), (left + gap // 2, top + gap // 2))
    return drawn


def close_up(picture: Image.Image, box: tuple[float, ...]) -> Image.Image:
    """Return a part of a picture, by edges from 0 to 1."""
    sides = (*picture.size, *picture.size)
    return picture.crop([round(edge * side) for edge, side in zip(box, sides, strict=True)])


def quote(picture: Image.Image, text: str) -> Image.Image:
    """Show a picture above the sentence that describes it."""
    drawn = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    drawn.paste(
        ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE // 2), Image.BICUBIC, centering=(0.5, 0.2))
    )
    lines, font = [""], ImageFont.load_default(38)
    for word in f'"{text}"'.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) < SIDE - 48 else [*lines, word]
    draw = ImageDraw.Draw(drawn)
    draw.multiline_text((24, SIDE // 2 + 24), "\n".join(lines), "white", font, spacing=10)
    return drawn
