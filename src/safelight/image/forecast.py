"""How much memory a request will take: what `cost` says of its decoding and of everything that it makes."""

from collections.abc import Sequence

from safelight.errors import SafelightError
from safelight.image import cost
from safelight.image.geometry import Size, check_pixels, largest
from safelight.image.linear import window_rows
from safelight.image.load import Input
from safelight.image.method import find_method, method_errors
from safelight.image.recipe import Recipe, Run, demand, encoding_of
from safelight.image.save import Encoding


def weigh(input_bytes: int, source: Input, groups: Sequence[Sequence[Recipe]], run: Run) -> int:
    """Predict how many bytes all of it will take; each group is decoded for itself, one after the other."""
    needs = [_weigh_group(input_bytes, source, recipes, run) for recipes in groups]
    return max(needs, default=cost.BASE_BYTES + input_bytes)


def _weigh_group(input_bytes: int, source: Input, recipes: Sequence[Recipe], run: Run) -> int:
    decoding = source.decoder.weigh(demand(source, recipes))
    makings = [_making(source, recipe, decoding.size, run) for recipe in recipes]
    return cost.of_request(input_bytes, decoding, makings)


def _making(source: Input, recipe: Recipe, decoded: Size, run: Run) -> cost.Making:
    edited_size, edit_bytes = cost.of_edits(recipe.target, recipe.spec.edits, run.settings.max_pixels)
    final, encoding = recipe.plan and recipe.plan.final, recipe.encoding
    if final is None or encoding is None:
        final, encoding = _foreseen(source, recipe, edited_size, run)
    is_linear = recipe.is_linear(source)
    rows = window_rows(decoded.height, recipe.target.height)
    return cost.Making(
        target=recipe.target,
        final=final,
        format_name=encoding and encoding.format.name,
        is_fine=encoding is not None and encoding.is_fine(final),
        is_thorough=encoding is not None and encoding.is_thorough,
        edit_bytes=edit_bytes,
        light_bytes=cost.of_light(decoded, recipe.target, rows) if is_linear else 0,
        is_streamed=recipe.is_streamed(source),
        is_turned=source.orientation != 1,
        converted=decoded if recipe.mixes_light else recipe.target,
    )


def _foreseen(source: Input, recipe: Recipe, edited_size: Size, run: Run) -> tuple[Size, Encoding | None]:
    """Size and encoding of what will only be known after the edits, if they are what they seem to be."""
    spec = recipe.spec
    try:
        encoding = encoding_of(spec, recipe.policy, source, run)
        method = find_method(spec.method, run.catalogue.methods)
        if method.plan is None:
            return largest([recipe.wanted, edited_size]), encoding
        with method_errors(method.name):
            final = method.plan(edited_size, recipe.wanted, spec.options).final
        check_pixels(*final, run.settings.max_pixels)
        return final, encoding
    except SafelightError:  # to be told when its turn comes
        return edited_size, None
