"""Server-wide settings of the image core. Plain values, importable without libvips."""

from dataclasses import dataclass

from safelight.image.speed import Speed

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """How images are read and written where a specification leaves it open.

    `speed`: how much work goes into an image whose specification does not say.
    `auto_orient`: apply the EXIF orientation first; every size is then the rotated one.
    `max_pixels`: limit for pixels decoded (after shrink-on-load) and for pixels produced; the default is
    1 GiB of 8-byte pixels (reference, thumbnailer section 10).
    `png_quality`: two digits, zlib level and filter (reference, 7.2). None: level 3, libvips' filter.
    `jpeg_quality`: 0..100. None: that of the policy, 85 for `reference`.
    `deadline_s`: what one transform may take; efforts that would take a good part of it are lowered.
    `shrink_on_load`, `downsample`: `--no-optimization` turns off both, `--no-downsample` the second.
    `plugins`: directories whose Python files add thumbnailing methods and edits, see `safelight.plugin`.
    `svg_max_bytes`, `svg_max_text`: refuse SVG documents with more bytes, or more characters of text.
    """

    speed: Speed = Speed.BALANCED
    auto_orient: bool = True
    max_pixels: int = 134_217_728
    png_quality: int | None = None
    jpeg_quality: int | None = None
    deadline_s: float = 20
    shrink_on_load: bool = True
    downsample: bool = True
    svg_max_bytes: int = 2 * MEBIBYTE
    svg_max_text: int = 5_000
    plugins: tuple[str, ...] = ()
