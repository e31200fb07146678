"""From bytes and specifications to encoded images: one decode for all of them.

Two ways lead to an output. Without edits its size follows from the header by the reference's formulas alone,
so whatever was decoded is resized to it at once. With edits the image is first brought to the size that the
older server would have worked on (`virtual`), because edits see its pixels.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import ceil
from typing import Any, cast

import pyvips
from pyvips import Image

from safelight.errors import BadRequest, ImageError, SafelightError, TooLarge, UnsupportedMedia
from safelight.image import pillow, warm
from safelight.image.catalogue import BUILT_IN, Catalogue
from safelight.image.cost import NotGranted
from safelight.image.counts import with_totals
from safelight.image.edit import Context, apply_edit
from safelight.image.forecast import weigh
from safelight.image.formats import JPEG, Buffer
from safelight.image.geometry import (
    TOO_LARGE,
    Plan,
    Size,
    downsampled,
    largest,
    load_hint,
)
from safelight.image.identify import describe
from safelight.image.load import Input, decoding, open_input, secure
from safelight.image.method import (
    BACKGROUND,
    DEFAULT_BACKGROUND,
    Tools,
    find_method,
    method_errors,
)
from safelight.image.policy import POLICIES, Demand
from safelight.image.profile import needs_conversion, to_8_bit, to_rgb, to_srgb
from safelight.image.recipe import Recipe, Run, background_of, demand, encoding_of, planned
from safelight.image.resize import (
    Level,
    box_shrink,
    complete,
    finish,
    flatten,
    orient,
    reduce,
    scale,
    size_of,
    whole,
)
from safelight.image.result import Thumbnail, Thumbnails
from safelight.image.save import check_sides, encode
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec
from safelight.image.speed import Speed, speed_of

Output = Thumbnail | SafelightError
Guard = Callable[[], AbstractContextManager[None]]


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
    outputs: list[Recipe | Output] = [_prepared(source, virtual, spec, run) for spec in specs]
    groups = _by_policy(outputs)
    if granted_bytes is not None:
        _check_grant(weigh(len(data), source, [list(group.values()) for group in groups], run), granted_bytes)
    opened = source
    for number, group in enumerate(groups):
        opened = opened if not number else open_input(data, settings)  # an input can be decoded once only
        for index, output in zip(group, _made(opened, list(group.values()), run), strict=True):
            outputs[index] = output
    return Thumbnails(
        describe(source),
        tuple(output for output in outputs if not isinstance(output, Recipe)),
        with_totals(run.counts),
    )


def _by_policy(recipes: Sequence[Recipe | Output]) -> list[dict[int, Recipe]]:
    """Recipes with their places, those together that share a decode: usually all."""
    groups: dict[Speed, dict[int, Recipe]] = {}
    for index, recipe in enumerate(recipes):
        if isinstance(recipe, Recipe):
            groups.setdefault(recipe.policy.speed, {})[index] = recipe
    return list(groups.values())


def _check_grant(needed_bytes: int, granted_bytes: int) -> None:
    if needed_bytes > granted_bytes:
        raise NotGranted(needed_bytes)


def _made(source: Input, recipes: Sequence[Recipe], run: Run) -> list[Output]:
    return _one(source, recipes[0], run) if len(recipes) == 1 else _several(source, recipes, run)


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
    policy = POLICIES[speed_of(spec.options, run.settings.speed)]
    if source.decoder.has_alpha:
        background_of(spec)
        run.counts.update(created_initialize=1, created_composite=1)
    if spec.edits:
        return Recipe(spec, policy, wanted, _stored(source, virtual))
    method = find_method(spec.method, run.catalogue.methods)
    if method.plan is None:
        return Recipe(spec, policy, wanted, _stored(source, virtual))
    plan = planned(method, virtual, wanted, spec, run)
    run.counts["thumbnails_created"] += 1
    encoding = encoding_of(spec, policy, source, run)
    check_sides(plan.final, encoding.format)
    return Recipe(spec, policy, wanted, _stored(source, plan.size), plan, encoding)


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


def _stored(source: Input, size: Size) -> Size:
    """A size of the rotated image as a size of the stored one."""
    return size.swapped if source.turned else size


# --- pixels


def _one(source: Input, recipe: Recipe, run: Run) -> list[Output]:
    """A single output: resized while it is decoded and, without edits, encoded in the same stream."""
    streams = recipe.is_streamed(source)
    with decoding():
        level = _decoded(source, demand(source, [recipe]), [recipe])
        image = _brought(level, recipe)
        image = image if streams or level.in_memory else image.copy_memory()
    return [_produced(image, source, recipe, run, decoding if streams else processing)]


def _several(source: Input, recipes: Sequence[Recipe], run: Run) -> list[Output]:
    """Several outputs from one decode in memory, the largest first: smaller ones are made from larger ones.

    Raises: UnsupportedMedia, TooLarge.
    """
    levels = [load_base(source, recipes)]
    outputs: dict[int, Output] = {}
    for index, recipe in sorted(enumerate(recipes), key=lambda item: _area(item[1]), reverse=True):
        with processing():
            image = _from_levels(levels, recipe)
        outputs[index] = _produced(image, source, recipe, run, processing)
    return [outputs[index] for index in range(len(recipes))]


def _area(recipe: Recipe) -> int:
    return recipe.target.width * recipe.target.height


def _decoded(source: Input, demand: Demand, recipes: Sequence[Recipe]) -> Level:
    """8 bits, in sRGB already if that is where light is mixed."""
    level = source.decoder.decode(demand)
    image = to_8_bit(level.image)
    image = to_srgb(image) if any(recipe.mixes_light for recipe in recipes) else image
    return level._replace(image=_flattened_early(image, recipes))


def _brought(level: Level, recipe: Recipe) -> Image:
    """To the recipe's target, on which edits work to the pixel."""
    if recipe.plan is None:
        level = whole(complete(level.image, recipe.target))
    elif recipe.policy.is_reference:
        level = whole(level.image)
    return level.scaled(recipe.target, is_linear=recipe.mixes_light)


def load_base(source: Input, recipes: Sequence[Recipe]) -> Level:
    """Decode once, into memory, large enough for all. Raises: UnsupportedMedia, TooLarge."""
    wanted = demand(source, recipes)
    with decoding():
        level = _decoded(source, wanted, recipes)
        if any(recipe.plan is None for recipe in recipes):
            return level._replace(image=level.image.copy_memory())
        top = _top(recipes)
        if top is not None and not level.image.hasalpha():
            return Level(*top.target, _brought(level, top).copy_memory())
        is_linear = any(recipe.mixes_light for recipe in recipes)
        return reduce(level, wanted.need) if is_linear else box_shrink(level.image, wanted.need)


def _top(recipes: Sequence[Recipe]) -> Recipe | None:
    """The largest, if all others can be made of it: then the decoded image need never be in memory.

    Measured on five sizes up to 2160 of 12 megapixels: a sixth of the CPU time less.
    """
    top, *others = sorted(recipes, key=_area, reverse=True)
    need = largest([Size(0, 0), *(_need_of_level(recipe) for recipe in others)])
    return top if need.width <= top.target.width and need.height <= top.target.height else None


def _from_levels(levels: list[Level], recipe: Recipe) -> Image:
    """Resize the smallest level that is large enough; the result becomes a level too, unless it has alpha."""
    need = _need_of_level(recipe)
    if recipe.plan is None:
        return _brought(levels[0]._replace(image=_flattened_early(levels[0].image, [recipe])), recipe)
    fitting = (level for level in levels if level.covers(need))
    level = min(fitting, key=lambda level: level.width, default=levels[0])
    level = level._replace(image=_flattened_early(level.image, [recipe]))
    image = level.scaled(recipe.target, is_linear=recipe.mixes_light)
    if not levels[0].image.hasalpha():
        image = image.copy_memory()
        levels.append(Level(*recipe.target, image))
    return image


def _need_of_level(recipe: Recipe) -> Size:
    """Size that another output must have to be made into this one.

    640 pixels made of 1080 differ from 640 made of 4032 no more than if made of 2160: 49.0 and 49.6 dB.
    """
    clearance = recipe.policy.level_clearance
    return Size(ceil(recipe.target.width * clearance), ceil(recipe.target.height * clearance))


def _flattened_early(image: Image, recipes: Sequence[Recipe]) -> Image:
    """Flatten before resizing, which is less work, if all recipes agree and colours are final already."""
    if not image.hasalpha() or needs_conversion(image):
        return image
    backgrounds = {background_of(recipe.spec) for recipe in recipes}
    background = backgrounds.pop()
    return image if backgrounds or not background.opaque else flatten(image, background)


def produce(image: Image, source: Input, recipe: Recipe, run: Run) -> Thumbnail:
    """Make one output of an image at its target size. Raises: BadRequest, TooLarge, ImageError."""
    spec = recipe.spec
    image = to_srgb(image)
    if image.hasalpha():
        image = flatten(image, background_of(spec))
    if source.orientation != 1:
        image = orient(image.copy_memory(), source.orientation)
    if recipe.plan is None:
        tools = run.tools(recipe.policy)
        image = edited(to_rgb(image), spec, tools, run.catalogue)
        image = _flattened_late(_by_method(image, recipe, tools, run), spec, run)
        run.counts["thumbnails_created"] += 1
    else:
        image = _finished(image, recipe.plan, spec)
    encoding = recipe.encoding or encoding_of(spec, recipe.policy, source, run)
    size = recipe.plan.final if recipe.plan else size_of(image)
    return Thumbnail(encode(image, size, encoding), encoding.format.mime_type, *size)


def _flattened_late(image: Image, spec: ThumbnailSpec, run: Run) -> Image:
    """Flatten what edits or the method made transparent; a translucent background is behind it already."""
    if not image.hasalpha() or not background_of(spec).opaque:
        return image
    run.counts.update(created_initialize=1, created_composite=1)
    return flatten(image, background_of(spec))


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


def edited(image: Image, spec: ThumbnailSpec, tools: Tools, catalogue: Catalogue) -> Image:
    """Apply the edits one after the other.

    Each result goes to memory: several edits read their input twice, which would double the work with every
    further edit if all stayed lazy.
    """
    for edit in spec.edits:
        context = Context(spec, edit, tools)
        image = apply_edit(image.copy_memory(), context, catalogue.edits).copy_memory()
    return image


def _by_method(image: Image, recipe: Recipe, tools: Tools, run: Run) -> Image:
    """The thumbnailing method, for an image whose size was not known before."""
    spec = recipe.spec
    method = find_method(spec.method, run.catalogue.methods)
    if method.transform is not None:
        options = {BACKGROUND: DEFAULT_BACKGROUND, **spec.options}
        with method_errors(method.name):
            return method.transform(image.copy_memory(), recipe.wanted, options, tools) or image
    plan = planned(method, size_of(image), recipe.wanted, spec, run)
    return _finished(scale(image, plan.size, is_linear=tools.is_linear), plan, spec)


def _finished(image: Image, plan: Plan, spec: ThumbnailSpec) -> Image:
    return finish(image, plan, background_of(spec) if plan.canvas is not None else None)


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
