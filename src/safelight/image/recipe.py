"""What is known of an output before any pixel: one specification, checked against the header of the input."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from safelight.image.catalogue import BUILT_IN, Catalogue
from safelight.image.colour import Colour, parse_colour
from safelight.image.counts import Counts
from safelight.image.geometry import Plan, Size, check_pixels, largest
from safelight.image.load import Input
from safelight.image.method import BACKGROUND, DEFAULT_BACKGROUND, Method, Tools, method_errors
from safelight.image.policy import Demand, Policy
from safelight.image.resize import count_plan
from safelight.image.save import Encoding, parse_encoding
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec


@dataclass(frozen=True, slots=True)
class Recipe:
    """One specification, checked against the header of the input.

    `target`: what to resize the decoded image to, as stored, before any rotation. `plan` and `encoding` are
    known now only if there are no edits and the method is a plan; else they follow from the edited image.
    """

    spec: ThumbnailSpec
    policy: Policy
    wanted: Size
    target: Size
    plan: Plan | None = None
    encoding: Encoding | None = None

    @property
    def mixes_light(self) -> bool:
        """It is resized in linear light, if it is made smaller."""
        return self.policy.mixes_light(self.target)

    def is_streamed(self, source: Input) -> bool:
        """Every pixel is read once, from top to bottom, until it is encoded."""
        plan, encoding = self.plan, self.encoding
        if plan is None or encoding is None or source.orientation != 1:
            return False
        in_memory = encoding.is_gathered(plan.final) or encoding.looks(plan.final)
        return not (in_memory or self.is_linear(source))

    def is_linear(self, source: Input) -> bool:
        """It is made smaller, in linear light; that ends in memory."""
        size = source.decoder.size
        is_smaller = self.target.width < size.width or self.target.height < size.height
        return self.mixes_light and is_smaller

    def need(self, source: Input) -> Size:
        """Size to decode at least: the virtual one for edits, else so much that one resize does it well."""
        by_decoder = source.decoder.clearance
        clearance = self.policy.clearance(self.target, by_decoder) if self.plan is not None else 1
        return Size(ceil(self.target.width * clearance), ceil(self.target.height * clearance))


@dataclass(frozen=True, slots=True)
class Run:
    """What one request is done with: settings, methods and edits, and the tally of its operations."""

    settings: ImageSettings
    catalogue: Catalogue = BUILT_IN
    counts: Counts = field(default_factory=Counts)

    def tools(self, policy: Policy) -> Tools:
        """What methods and edits of plugins may use of it."""
        return Tools(self.settings.max_pixels, self.counts, policy.is_linear)


def demand(source: Input, recipes: Sequence[Recipe]) -> Demand:
    """What recipes of one policy want to be decoded."""
    return Demand(
        largest([recipe.need(source) for recipe in recipes]),
        largest([recipe.target for recipe in recipes]),
        recipes[0].policy,
    )


def planned(method: Method, have: Size, wanted: Size, spec: ThumbnailSpec, run: Run) -> Plan:
    """What a method does to an image of `have` pixels. Raises: BadRequest, TooLarge."""
    assert method.plan is not None  # noqa: S101
    with method_errors(method.name):
        plan = method.plan(have, wanted, spec.options)
    if plan.canvas is not None:
        background_of(spec)
    check_pixels(*plan.size, run.settings.max_pixels)
    check_pixels(*plan.final, run.settings.max_pixels)
    count_plan(plan, have, run.counts)
    return plan


def encoding_of(spec: ThumbnailSpec, policy: Policy, source: Input, run: Run) -> Encoding:
    """How to write the output. Raises: BadRequest."""
    return parse_encoding(spec.format, spec.options, source.format, run.settings, policy)


def background_of(spec: ThumbnailSpec) -> Colour:
    """The specification's background colour; parsed only where it matters. Raises: ColourError."""
    return parse_colour(spec.options.get(BACKGROUND, DEFAULT_BACKGROUND))
