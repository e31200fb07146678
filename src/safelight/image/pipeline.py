"""From bytes and specifications to encoded images: one decode for all of them.

Two ways lead to an output. Without edits its size follows from the header by the reference's formulas alone,
so whatever was decoded is resized to it at once. With edits the image is first brought to the size that the
older server would have worked on (`virtual`), because edits see its pixels.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any, cast

import pyvips
from pyvips import Image

from safelight.errors import BadRequest, ImageError, SafelightError, TooLarge, UnsupportedMedia
from safelight.image import cost, pillow, warm
from safelight.image.catalogue import BUILT_IN, Catalogue
from safelight.image.colour import Colour, parse_colour
from safelight.image.cost import NotGranted
from safelight.image.counts import Counts, with_totals
from safelight.image.edit import Context, apply_edit
from safelight.image.formats import JPEG, Buffer
from safelight.image.geometry import (
    TOO_LARGE,
    Plan,
    Size,
    check_pixels,
    downsampled,
    largest,
    load_hint,
)
from safelight.image.identify import describe
from safelight.image.load import Input, decoding, open_input, secure
from safelight.image.method import (
    BACKGROUND,
    DEFAULT_BACKGROUND,
    Method,
    Tools,
    find_method,
    method_errors,
)
from safelight.image.profile import needs_conversion, to_8_bit, to_rgb, to_srgb
from safelight.image.resize import (
    Level,
    box_shrink,
    complete,
    count_plan,
    finish,
    flatten,
    orient,
    scale,
    size_of,
)
from safelight.image.result import Thumbnail, Thumbnails
from safelight.image.save import Encoding, check_sides, encode, parse_encoding
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec
from safelight.image.speed import speed_of

LEVEL_CLEARANCE = 1.6

Output = Thumbnail | SafelightError
Guard = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One specification, checked against the header of the input.

    `target`: what to resize the decoded image to, as stored, before any rotation. `plan` and `encoding` are
    known now only if there are no edits and the method is a plan; else they follow from the edited image.
    """

    spec: ThumbnailSpec
    wanted: Size
    target: Size
    plan: Plan | None = None
    encoding: Encoding | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What one request is done with: settings, methods and edits, and the tally of its operations."""

    settings: ImageSettings
    catalogue: Catalogue = BUILT_IN
    counts: Counts = field(default_factory=Counts)

    @property
    def tools(self) -> Tools:
        """What methods and edits of plugins may use of it."""
        return Tools(self.settings.max_pixels, self.counts)


def thumbnail(
    data: Buffer,
    specs: Sequence[ThumbnailSpec],
    settings: ImageSettings,
    catalogue: Catalogue = BUILT_IN,
    *,
    granted_bytes: int | None = None,
) -> Thumbnails:
    """Make every specified output from one decode of `data`, which must not change meanwhile.

    `granted_bytes`: memory that this may take, as `weigh` predicts it; None: any.
    Raises: NotGranted, before anything is decoded; UnsupportedMedia, TooLarge for the input as a whole. What
    fails for one specification only is an entry of the result.
    """
    run = Run(settings, catalogue)
    source = open_input(data, settings)
    run.counts.update(images_loaded=1, created_from_blob=1)
    virtual = virtual_size(source, specs, run)
    recipes = [_prepared(source, virtual, spec, run) for spec in specs]
    ready = [recipe for recipe in recipes if isinstance(recipe, Recipe)]
    if granted_bytes is not None and (needed_bytes := weigh(len(data), source, ready, run)) > granted_bytes:
        raise NotGranted(needed_bytes)
    made = _one(source, ready[0], run) if len(ready) == 1 else _several(source, ready, run)
    outputs = iter(made)
    return Thumbnails(
        describe(source),
        tuple(next(outputs) if isinstance(recipe, Recipe) else recipe for recipe in recipes),
        with_totals(run.counts),
    )


# --- from the header alone


def virtual_size(source: Input, specs: Sequence[ThumbnailSpec], run: Run) -> Size:
    """Size that the older server would work on: after load hint and downsampling (reference 6.1), rotated."""
    settings = run.settings
    sides = [(spec.width, spec.height) for spec in specs]
    known = [
        Size(max(1, width), max(1, height))
        for width, height in sides
        if width is not None and height is not None
    ]
    if not settings.shrink_on_load or not known or len(known) < len(sides):
        return source.size
    most = largest(known)
    size = load_hint(source.size, most) if source.format is JPEG else source.size
    small = downsampled(size, most) if settings.downsample else size
    if small != size:
        run.counts.update(downsampled=1, created_sample=1)
    return small


def prepare(source: Input, virtual: Size, spec: ThumbnailSpec, run: Run) -> Recipe:
    """Check all that can be before pixels, in the order of reference 6.5. Raises: BadRequest, TooLarge."""
    wanted = _wanted(source.size, spec)
    speed_of(spec.options, run.settings.speed)
    if source.decoder.has_alpha:
        _background(spec)
        run.counts.update(created_initialize=1, created_composite=1)
    if spec.edits:
        return Recipe(spec, wanted, _stored(source, virtual))
    method = find_method(spec.method, run.catalogue.methods)
    if method.plan is None:
        return Recipe(spec, wanted, _stored(source, virtual))
    plan = _plan(method, virtual, wanted, spec, run)
    run.counts["thumbnails_created"] += 1
    encoding = parse_encoding(spec.format, spec.options, source.format, run.settings)
    check_sides(plan.final, encoding.format)
    return Recipe(spec, wanted, _stored(source, plan.size), plan, encoding)


def _prepared(source: Input, virtual: Size, spec: ThumbnailSpec, run: Run) -> Recipe | SafelightError:
    try:
        return prepare(source, virtual, spec, run)
    except SafelightError as error:
        return error


def _wanted(size: Size, spec: ThumbnailSpec) -> Size:
    width = size.width if spec.width is None else spec.width
    height = size.height if spec.height is None else spec.height
    if not width or not height:
        raise BadRequest(f"at least one image dimension is zero: {width}x{height}")
    return Size(width, height)


def _plan(method: Method, have: Size, wanted: Size, spec: ThumbnailSpec, run: Run) -> Plan:
    assert method.plan is not None  # noqa: S101
    with method_errors(method.name):
        plan = method.plan(have, wanted, spec.options)
    if plan.canvas is not None:
        _background(spec)
    check_pixels(*plan.size, run.settings.max_pixels)
    check_pixels(*plan.final, run.settings.max_pixels)
    count_plan(plan, have, run.counts)
    return plan


def _background(spec: ThumbnailSpec) -> Colour:
    """The specification's background colour; parsed only where it matters. Raises: ColourError."""
    return parse_colour(spec.options.get(BACKGROUND, DEFAULT_BACKGROUND))


def _stored(source: Input, size: Size) -> Size:
    """A size of the rotated image as a size of the stored one."""
    return size.swapped if source.turned else size


# --- memory


def weigh(input_bytes: int, source: Input, recipes: Sequence[Recipe], run: Run) -> int:
    """Predict how many bytes of memory all of it will take, see `cost`."""
    if not recipes:
        return cost.BASE_BYTES + input_bytes
    decoding_cost = source.decoder.weigh(largest([_need(source, recipe) for recipe in recipes]))
    return cost.of_request(input_bytes, decoding_cost, [_making(source, recipe, run) for recipe in recipes])


def _making(source: Input, recipe: Recipe, run: Run) -> cost.Making:
    edited_size, edit_bytes = cost.of_edits(recipe.target, recipe.spec.edits, run.settings.max_pixels)
    final, encoding = recipe.plan and recipe.plan.final, recipe.encoding
    if final is None or encoding is None:
        final, encoding = _foreseen(source, recipe, edited_size, run)
    return cost.Making(
        target=recipe.target,
        final=final,
        format_name=encoding and encoding.format.name,
        quality=encoding and encoding.quality,
        edit_bytes=edit_bytes,
        is_streamed=_streams(source, recipe),
        is_turned=source.orientation != 1,
    )


def _foreseen(source: Input, recipe: Recipe, edited_size: Size, run: Run) -> tuple[Size, Encoding | None]:
    """Size and encoding of what will only be known after the edits, if they are what they seem to be."""
    spec = recipe.spec
    try:
        encoding = parse_encoding(spec.format, spec.options, source.format, run.settings)
        method = find_method(spec.method, run.catalogue.methods)
        if method.plan is None:
            return largest([recipe.wanted, edited_size]), encoding
        with method_errors(method.name):
            final = method.plan(edited_size, recipe.wanted, spec.options).final
        check_pixels(*final, run.settings.max_pixels)
        return final, encoding
    except SafelightError:  # to be told when its turn comes
        return edited_size, None


# --- pixels


def _one(source: Input, recipe: Recipe, run: Run) -> list[Output]:
    """A single output: resized while it is decoded and, without edits, encoded in the same stream."""
    streams = _streams(source, recipe)
    with decoding():
        image = to_8_bit(source.decoder.decode(_need(source, recipe)))
        image = _flattened_early(image, [recipe])
        image = image if recipe.plan else complete(image, recipe.target)
        image = scale(image, recipe.target)
        image = image if streams else image.copy_memory()
    return [_produced(image, source, recipe, run, decoding if streams else processing)]


def _several(source: Input, recipes: Sequence[Recipe], run: Run) -> list[Output]:
    """Several outputs from one decode in memory, the largest first: smaller ones are made from larger ones.

    Raises: UnsupportedMedia, TooLarge.
    """
    if not recipes:
        return []
    levels = [load_base(source, recipes)]
    outputs: dict[int, Output] = {}
    for index, recipe in sorted(enumerate(recipes), key=lambda item: _area(item[1]), reverse=True):
        with processing():
            image = _from_levels(levels, recipe)
        outputs[index] = _produced(image, source, recipe, run, processing)
    return [outputs[index] for index in range(len(recipes))]


def _area(recipe: Recipe) -> int:
    return recipe.target.width * recipe.target.height


def load_base(source: Input, recipes: Sequence[Recipe]) -> Level:
    """Decode once, into memory, large enough for all. Raises: UnsupportedMedia, TooLarge."""
    need = largest([_need(source, recipe) for recipe in recipes])
    with decoding():
        image = to_8_bit(source.decoder.decode(need))
        image = _flattened_early(image, recipes)
        if any(recipe.plan is None for recipe in recipes):
            return Level(*size_of(image), image.copy_memory())
        top = _top(recipes)
        if top is None or image.hasalpha():
            return box_shrink(image, need)
        return Level(*top, scale(image, top).copy_memory())


def _top(recipes: Sequence[Recipe]) -> Size | None:
    """The largest target, if all others can be made of it: then the decoded image need never be in memory.

    Measured on five sizes up to 2160 of 12 megapixels: a sixth of the CPU time less.
    """
    top, *others = sorted(recipes, key=_area, reverse=True)
    need = largest([Size(0, 0), *(_need_of_level(recipe) for recipe in others)])
    return top.target if need.width <= top.target.width and need.height <= top.target.height else None


def _from_levels(levels: list[Level], recipe: Recipe) -> Image:
    """Resize the smallest level that is large enough; the result becomes a level too, unless it has alpha."""
    need = _need_of_level(recipe)
    if recipe.plan is None:
        image = _flattened_early(levels[0].image, [recipe])
        return scale(complete(image, recipe.target), recipe.target)
    fitting = (level for level in levels if level.covers(need))
    level = min(fitting, key=lambda level: level.width, default=levels[0])
    image = Level(level.width, level.height, _flattened_early(level.image, [recipe])).scaled(recipe.target)
    if not levels[0].image.hasalpha():
        image = image.copy_memory()
        levels.append(Level(*recipe.target, image))
    return image


def _streams(source: Input, recipe: Recipe) -> bool:
    """Every pixel is read once, from top to bottom."""
    return recipe.plan is not None and source.orientation == 1


def _need(source: Input, recipe: Recipe) -> Size:
    """Size to decode at least: the virtual one for edits, else so much that one resize does the rest well."""
    clearance = source.decoder.clearance if recipe.plan is not None else 1
    return Size(recipe.target.width * clearance, recipe.target.height * clearance)


def _need_of_level(recipe: Recipe) -> Size:
    """Size that another output must have to be made into this one.

    640 pixels made of 1080 differ from 640 made of 4032 no more than if made of 2160: 49.0 and 49.6 dB.
    """
    return Size(ceil(recipe.target.width * LEVEL_CLEARANCE), ceil(recipe.target.height * LEVEL_CLEARANCE))


def _flattened_early(image: Image, recipes: Sequence[Recipe]) -> Image:
    """Flatten before resizing, which is less work, if all recipes agree and colours are final already."""
    if not image.hasalpha() or needs_conversion(image):
        return image
    backgrounds = {_background(recipe.spec) for recipe in recipes}
    background = backgrounds.pop()
    return image if backgrounds or not background.opaque else flatten(image, background)


def produce(image: Image, source: Input, recipe: Recipe, run: Run) -> Thumbnail:
    """Make one output of an image at its target size. Raises: BadRequest, TooLarge, ImageError."""
    spec = recipe.spec
    image = to_srgb(image)
    if image.hasalpha():
        image = flatten(image, _background(spec))
    if source.orientation != 1:
        image = orient(image.copy_memory(), source.orientation)
    if recipe.plan is None:
        image = edited(to_rgb(image), spec, run)
        image = _flattened_late(_by_method(image, recipe, run), spec, run)
        run.counts["thumbnails_created"] += 1
    else:
        image = _finished(image, recipe.plan, spec)
    encoding = recipe.encoding or parse_encoding(spec.format, spec.options, source.format, run.settings)
    size = recipe.plan.final if recipe.plan else size_of(image)
    return Thumbnail(encode(image, size, encoding), encoding.format.mime_type, *size)


def _flattened_late(image: Image, spec: ThumbnailSpec, run: Run) -> Image:
    """Flatten what edits or the method made transparent; a translucent background is behind it already."""
    if not image.hasalpha() or not _background(spec).opaque:
        return image
    run.counts.update(created_initialize=1, created_composite=1)
    return flatten(image, _background(spec))


def _produced(image: Image, source: Input, recipe: Recipe, run: Run, guard: Guard) -> Output:
    """The output or what prevented it. Raises: UnsupportedMedia, which is about the input."""
    try:
        with guard():
            return produce(image, source, recipe, run)
    except UnsupportedMedia:
        raise
    except SafelightError as error:
        return error


@contextmanager
def processing() -> Generator[None]:
    """Around libvips work on pixels that are decoded. Raises: TooLarge, ImageError."""
    try:
        yield
    except pyvips.Error as error:
        text = str(error)
        if "out of memory" in text.lower():
            raise TooLarge(TOO_LARGE, detail=text) from error
        raise ImageError("image processing failed", detail=text) from error


def edited(image: Image, spec: ThumbnailSpec, run: Run) -> Image:
    """Apply the edits one after the other.

    Each result goes to memory: several edits read their input twice, which would double the work with every
    further edit if all stayed lazy.
    """
    for edit in spec.edits:
        context = Context(spec, edit, run.tools)
        image = apply_edit(image.copy_memory(), context, run.catalogue.edits).copy_memory()
    return image


def _by_method(image: Image, recipe: Recipe, run: Run) -> Image:
    """The thumbnailing method, for an image whose size was not known before."""
    spec = recipe.spec
    method = find_method(spec.method, run.catalogue.methods)
    if method.transform is not None:
        options = {BACKGROUND: DEFAULT_BACKGROUND, **spec.options}
        with method_errors(method.name):
            return method.transform(image.copy_memory(), recipe.wanted, options, run.tools) or image
    plan = _plan(method, size_of(image), recipe.wanted, spec, run)
    return _finished(scale(image, plan.size), plan, spec)


def _finished(image: Image, plan: Plan, spec: ThumbnailSpec) -> Image:
    return finish(image, plan, _background(spec) if plan.canvas is not None else None)


# --- before the first request


def import_all() -> None:
    """Import everything without running a libvips pipeline, so that a fork may follow."""
    secure()
    pillow.import_all()


def warm_up(settings: ImageSettings) -> None:
    """Run every loader, saver and sort of edit once; sets libvips to one thread and no operation cache.

    Afterwards nothing is imported and no file is opened but fonts for SVG text.
    """
    import_all()
    pyvips.cache_set_max(0)
    cast(Any, pyvips).concurrency_set(1)
    small = ThumbnailSpec.parse("crop,4,4,jpeg")
    for data, specs in warm.samples():
        for output in thumbnail(data, specs, settings).outputs:
            if isinstance(output, Thumbnail):
                thumbnail(output.data, [small], settings)
