"""How much memory a request will take: what `cost` says of its decoding and of everything that it makes."""

from collections.abc import Sequence
from math import cos, radians, sin

from safelight.errors import SafelightError, TooLarge
from safelight.image import cost
from safelight.image.arguments import ArgumentError, parse_float
from safelight.image.geometry import Plan, Size, check_pixels, largest, rotated_bounds
from safelight.image.linear import rows_in_memory
from safelight.image.load import Input
from safelight.image.method import find_method, method_errors
from safelight.image.recipe import Recipe, Run, demand, encoding_of
from safelight.image.resizing import RESIZES
from safelight.image.save import Encoding
from safelight.image.spec import Edit


def weigh(input_bytes: int, source: Input, groups: Sequence[Sequence[Recipe]], run: Run) -> int:
    """Predict how many bytes all of it will take; each group is decoded for itself, one after the other."""
    needs = [_weigh_group(input_bytes, source, recipes, run) for recipes in groups]
    return max(needs, default=cost.BASE_BYTES + input_bytes)


def _weigh_group(input_bytes: int, source: Input, recipes: Sequence[Recipe], run: Run) -> int:
    decoding = source.decoder.weigh(demand(source, recipes))
    makings = [_making(source, recipe, decoding.size, run) for recipe in recipes]
    return cost.of_request(input_bytes, decoding, makings)


def _making(source: Input, recipe: Recipe, decoded: Size, run: Run) -> cost.Making:
    edited_size, edit_bytes = _edits(recipe, run.settings.max_pixels)
    plan, encoding, light_bytes = recipe.plan, recipe.encoding, 0
    if plan is None or encoding is None:
        plan, encoding = _foreseen(source, recipe, edited_size, run)
        light_bytes = _light(edited_size, plan.size, is_linear=recipe.policy.is_linear)
    return cost.Making(
        target=recipe.target,
        final=plan.final,
        format_name=encoding and encoding.format.name,
        is_fine=encoding is not None and encoding.is_fine(plan.final),
        is_thorough=encoding is not None and encoding.is_thorough,
        edit_bytes=edit_bytes,
        light_bytes=max(light_bytes, _light(decoded, recipe.target, is_linear=recipe.is_linear(source))),
        is_streamed=recipe.is_streamed(source),
        is_turned=source.orientation != 1,
        converted=decoded if recipe.mixes_light else recipe.target,
    )


def _light(before: Size, after: Size, *, is_linear: bool) -> int:
    """What a resize takes in linear light; enlarging has none."""
    if not is_linear or (after.width >= before.width and after.height >= before.height):
        return 0
    return cost.of_light(before, after, rows_in_memory(before.height, after.height))


def _edits(recipe: Recipe, max_pixels: int) -> tuple[Size, int]:
    """Size after all edits, and bytes for the greediest."""
    size, most = recipe.target, 0
    for edit in recipe.spec.edits:
        plan = _plan_of_edit(size, edit)
        if cost.pixels(plan.size) > max_pixels:  # refused when its turn comes
            plan = Plan(size)
        is_linear = recipe.policy.is_linear and edit.name in RESIZES
        light_bytes = _light(size, plan.size, is_linear=is_linear)
        most = max(most, cost.of_edit(size, plan.final) + light_bytes)
        size = plan.final
    return size, most


def _plan_of_edit(size: Size, edit: Edit) -> Plan:
    """What an edit makes of a picture: rotating and resizing change it, nothing else is taken to be cut off.

    An edit that will complain changes nothing.
    """
    numbers = [number for number in map(parse_float, edit.args[:2]) if number is not None]
    try:
        match edit.name, numbers:
            case "rotate", [angle_deg, *_]:
                arc = radians(angle_deg)
                width, height = rotated_bounds(size, sin(arc), cos(arc))
                return Plan(Size(int(width) + 1, int(height) + 1))
            case name, [width, height] if name in RESIZES:
                return RESIZES[name](size, width, height)
            case _:
                return Plan(size)
    except (ArgumentError, TooLarge):
        return Plan(size)


def _foreseen(source: Input, recipe: Recipe, edited_size: Size, run: Run) -> tuple[Plan, Encoding | None]:
    """Plan and encoding of what will only be known after the edits, if they are what they seem to be."""
    spec = recipe.spec
    try:
        encoding = encoding_of(spec, recipe.policy, source, run)
        method = find_method(spec.method, run.catalogue.methods)
        if method.plan is None:
            return Plan(largest([recipe.wanted, edited_size])), encoding
        with method_errors(method.name):
            plan = method.plan(edited_size, recipe.wanted, spec.options)
        check_pixels(*plan.size, run.settings.max_pixels)
        check_pixels(*plan.final, run.settings.max_pixels)
        return plan, encoding
    except SafelightError:  # to be told when its turn comes
        return Plan(edited_size), None
