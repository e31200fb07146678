"""Thumbnailing methods by name (reference 7.1).

A built-in method only computes: sizes in, `Plan` out. An added one may instead transform an image itself.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pyvips import Image

from safelight.errors import BadRequest
from safelight.image.arguments import Argument, ArgumentError, Kind, float_arg
from safelight.image.counts import Counts
from safelight.image.geometry import Plan, Size, fill, fit, pad

Options = Mapping[str, str]
MakePlan = Callable[[Size, Size, Options], Plan]
Transform = Callable[[Image, Size, Options, "Tools"], Image | None]

BACKGROUND = "background-color"
DEFAULT_BACKGROUND = "white"


@dataclass(frozen=True, slots=True)
class Tools:
    """What a transform may need besides its image.

    `max_pixels`: limit for pixels produced. `counts`: where to count. `is_linear`: resize in linear light.
    """

    max_pixels: int
    counts: Counts
    is_linear: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """A thumbnailing method: either `plan` or `transform` is set.

    `plan(have, want, options)` gives the geometry. `transform(image, want, options, tools)` returns the new
    image, or None for unchanged; its options always contain `background-color`.
    """

    name: str
    plan: MakePlan | None = None
    transform: Transform | None = None
    options: tuple[Argument, ...] = ()


@contextmanager
def method_errors(name: str) -> Generator[None]:
    """Say which method an argument error belongs to. Raises: BadRequest."""
    try:
        yield
    except ArgumentError as error:
        message = f"error while thumbnailing with method '{name}': {error.message}"
        raise BadRequest(message, detail=error.detail) from error


def find_method(name: str, methods: Mapping[str, Method]) -> Method:
    """Raises: BadRequest."""
    method = methods.get(name)
    if method is None:
        raise BadRequest(f"thumbnail method '{name}' is not supported")
    return method


def _floats(options: Options) -> tuple[float, float]:
    return float_arg("float-x", options.get("float-x"), 0.5), float_arg(
        "float-y", options.get("float-y"), 0.5
    )


def plan_crop(have: Size, want: Size, options: Options) -> Plan:
    """Cover the wanted size and cut off what is over. Raises: ArgumentError, TooLarge."""
    return Plan(have) if have == want else fill(have, *want, *_floats(options))


def plan_fit(have: Size, want: Size, _options: Options) -> Plan:
    """Fit into the wanted size, enlarging too. Raises: TooLarge."""
    return Plan(have) if have == want else Plan(fit(have, *want))


def plan_limit(have: Size, want: Size, _options: Options) -> Plan:
    """Fit into the wanted size only if larger. Raises: TooLarge."""
    within = have.width <= want.width and have.height <= want.height
    return Plan(have) if within else Plan(fit(have, *want))


def plan_pad(have: Size, want: Size, options: Options) -> Plan:
    """Fit, then fill up to the wanted size with the background colour. Raises: ArgumentError, TooLarge."""
    return Plan(have) if have == want else pad(have, *want, *_floats(options))


def plan_stretch(_have: Size, want: Size, _options: Options) -> Plan:
    """Exactly the wanted size: the ratio is not kept."""
    return Plan(want)


_FLOATS = (
    Argument("float-x", Kind.FLOAT, 0.5, "0.0 keeps the left, 1.0 the right"),
    Argument("float-y", Kind.FLOAT, 0.5, "0.0 keeps the top, 1.0 the bottom"),
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("crop", plan_crop, options=_FLOATS),
        Method("fit", plan_fit),
        Method("limit", plan_limit),
        Method("pad", plan_pad, options=_FLOATS),
        Method("stretch", plan_stretch),
    )
}
