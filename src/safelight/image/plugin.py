"""Thumbnailing methods and edits written by users: how their functions are declared, called and judged.

A plugin is trusted like the configuration: it runs with the rights of an image worker. What it does wrong
still costs one request only and is told in its name.
"""

import inspect
import logging
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pyvips import Image

from safelight.errors import BadRequest, ImageError, TooLarge
from safelight.image.arguments import Argument, Kind, Values
from safelight.image.catalogue import Catalogue
from safelight.image.edit import Context, Operation
from safelight.image.geometry import TOO_LARGE, Size, check_pixels
from safelight.image.method import BACKGROUND, DEFAULT_BACKGROUND, Method, Options, Tools
from safelight.image.plugin_image import PluginImage, normal
from safelight.image.resize import size_of

LOG = logging.getLogger("safelight.plugins")
MAX_DETAIL_CHARACTERS = 1_900
MAX_BANDS = 4
OUT_OF_MEMORY = "out of memory"
_TAIL = ("options", "thumbnail_spec")
_SEPARATORS = ",:/!"

Function = TypeVar("Function", bound=Callable[..., Any])


class DeclarationError(Exception):
    """A function that cannot be a thumbnailing method or an edit."""


@dataclass(slots=True)
class Collector:
    """What one plugin file declares. `origin`: how its errors name it."""

    origin: str
    methods: dict[str, Method] = field(default_factory=dict[str, Method])
    edits: dict[str, Operation] = field(default_factory=dict[str, Operation])

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.methods, self.edits)


_COLLECTOR: ContextVar[Collector | None] = ContextVar("collector", default=None)


@contextmanager
def collecting(origin: str) -> Generator[Collector]:
    """Gather what is declared in the block."""
    collector = Collector(origin)
    token = _COLLECTOR.set(collector)
    try:
        yield collector
    finally:
        _COLLECTOR.reset(token)


def thumbnailing_method(name: str) -> Callable[[Function], Function]:
    """Declare a thumbnailing method: a function of image, width, height, options.

    `width` and `height` are the requested pixels, `options` those of the specification, texts, always with
    `background-color`. It returns the new image, a `pyvips.Image` too, or None for unchanged.
    The function itself stays as it is.
    """
    _check_name("thumbnailing method", name)

    def declare(function: Function) -> Function:
        _check_function("thumbnailing method", name, function)
        _check_arguments(function)
        collector = _COLLECTOR.get()
        if collector is not None:
            LOG.info("adding thumbnailing method: %s", name)
            collector.methods[name] = plugin_method(name, function, collector.origin)
        return function

    return declare


def edit(name: str) -> Callable[[Function], Function]:
    """Declare an edit: a function of image, any number of arguments, options, thumbnail_spec.

    Arguments are the texts of the request; those that it lacks are None, or the default that the function
    states. `options` are those of the edit, `thumbnail_spec` is the whole specification. Both may be declared
    keyword-only instead, or left out then; `*args` takes whatever is over. Result: as `thumbnailing_method`.
    """
    _check_name("edit", name)

    def declare(function: Function) -> Function:
        _check_function("edit", name, function)
        shape = Shape.of(function)
        collector = _COLLECTOR.get()
        if collector is not None:
            LOG.info("adding edit: %s(%s)", name, ", ".join(shape.shown))
            collector.edits[name] = plugin_edit(name, function, shape, collector.origin)
        return function

    return declare


# --- declarations


@dataclass(frozen=True, slots=True)
class Shape:
    """What an edit function takes: named arguments with their defaults; more; its options how."""

    names: tuple[str, ...]
    defaults: tuple[Any, ...]
    variadic: str | None
    keywords: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Shape":
        """Raises: DeclarationError."""
        parameters = list(inspect.signature(function).parameters.values())
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        positional = [one for one in parameters if one.kind in by_position]
        keywords = tuple(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
        variadic = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), None)
        taken = 1 if keywords or variadic else 3
        if len(positional) < taken or not set(keywords) <= set(_TAIL):
            raise DeclarationError(
                f"an edit takes image, its arguments, options, thumbnail_spec; got: {_shown(function)}"
            )
        arguments = positional[1 : len(positional) - taken + 1]
        defaults = (None if one.default is one.empty else one.default for one in arguments)
        return cls(tuple(one.name for one in arguments), tuple(defaults), variadic, keywords)

    @property
    def shown(self) -> list[str]:
        """Names of the arguments, for the log."""
        return [*self.names, *([f"*{self.variadic}"] if self.variadic else [])]

    def arguments(self, given: Sequence[str]) -> list[Any]:
        """What the request gives, filled up with defaults; what is over only if it is wanted."""
        count = len(self.names)
        return [*given[:count], *self.defaults[len(given) :], *(given[count:] if self.variadic else ())]

    def tail(self, options: Options, spec: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Options and specification, by position or by name."""
        both: dict[str, Any] = {"options": options, "thumbnail_spec": spec}
        return ((), {name: both[name] for name in self.keywords}) if self.keywords else ((options, spec), {})


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str):
        raise DeclarationError(f"{what} name must be a string; got: {name!r}")
    if not name or any(character in name for character in _SEPARATORS):
        raise DeclarationError(f"{what} name '{name}' cannot be written in a specification")


def _check_function(what: str, name: str, function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(f"{what} '{name}' must be a plain function")


def _check_arguments(function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind(None, None, None, None)
    except TypeError as error:
        text = f"a thumbnailing method takes image, width, height, options; got: {_shown(function)}"
        raise DeclarationError(text) from error


def _shown(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__name__', '?')}{inspect.signature(function)}"


# --- calls


def plugin_method(name: str, function: Callable[..., Any], origin: str) -> Method:
    """A thumbnailing method that calls `function`."""

    def transform(image: Image, want: Size, options: Options, tools: Tools) -> Image | None:
        what = f"thumbnailing method '{name}'"
        wrapped = PluginImage(image, background=options[BACKGROUND], tools=tools)
        return _result(lambda: function(wrapped, *want, dict(options)), what, origin, tools)

    return Method(name, transform=transform)


def plugin_edit(name: str, function: Callable[..., Any], shape: Shape, origin: str) -> Operation:
    """An edit that calls `function`."""

    def apply(image: Image, _values: Values, context: Context) -> Image | None:
        what = f"edit '{name}'"
        options = dict(context.edit.options)
        inherited = context.spec.options.get(BACKGROUND, DEFAULT_BACKGROUND)
        wrapped = PluginImage(image, background=options.get(BACKGROUND, inherited), tools=context.tools)
        arguments = shape.arguments(context.edit.args)
        tail, keywords = shape.tail(options, context.spec)
        return _result(lambda: function(wrapped, *arguments, *tail, **keywords), what, origin, context.tools)

    arguments = tuple(Argument(argument, Kind.TEXT) for argument in shape.names)
    return Operation(name, apply, arguments, variadic=shape.variadic is not None)


def _result(call: Callable[[], object], what: str, origin: str, tools: Tools) -> Image | None:
    """What a plugin returns, as an image in memory. Raises: BadRequest, TooLarge, ImageError."""
    with blamed(what, origin):
        made = call()
    if made is None:
        return None
    if isinstance(made, PluginImage):
        return made.vips
    if not isinstance(made, Image):
        text = f"{what} returned '{type(made).__name__}' - expecting None or an image"
        raise ImageError(text, detail=f"plugin {origin}")
    with blamed(what, origin):  # libvips is lazy: the work that the plugin has planned is done here
        if made.bands > MAX_BANDS:
            raise ValueError(f"an image of {made.bands} bands, expecting 1 to {MAX_BANDS}")
        check_pixels(*size_of(made), tools.max_pixels)
        return normal(made).copy_memory()


@contextmanager
def blamed(what: str, origin: str) -> Generator[None]:
    """Around code of a plugin: errors of its arguments pass, whatever else it raises is its own fault.

    Raises: BadRequest, TooLarge, ImageError.
    """
    try:
        yield
    except (BadRequest, TooLarge, KeyboardInterrupt):
        raise
    except BaseException as error:
        detail = _trace(error)
        if isinstance(error, MemoryError) or OUT_OF_MEMORY in str(error).lower():
            raise TooLarge(TOO_LARGE, detail=detail) from error
        raise ImageError(f"{what} of plugin '{origin}' failed{_hint(error)}", detail=detail) from error


def _hint(error: BaseException) -> str:
    """What the jail forbids looks like a missing module or a forbidden file."""
    if isinstance(error, ImportError | PermissionError):
        return ": modules and files must be loaded at the top of the file, no request can open any"
    return ""


def _trace(error: BaseException) -> str:
    """The end of the traceback, without the lines of ours that lead to the plugin."""
    trace = error.__traceback__
    while trace and trace.tb_next and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    return text[-MAX_DETAIL_CHARACTERS:].strip()


def origin_of(path: Path, directory: Path) -> str:
    """How messages name a plugin file: without telling clients where it lies."""
    return path.relative_to(directory).as_posix()
