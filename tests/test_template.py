"""Templates (reference/imagestore 4.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.template import Template

VALUES = {"a": "1", "b": "#{a}", "": "never", " a ": "spaced", "é": "accent", "{": "brace", "a\nb": "line"}


@pytest.mark.covers("s098", "s099", "s100")
@pytest.mark.parametrize(
    ("text", "rendered", "names"),
    [
        ("", "", ()),
        ("plain", "plain", ()),
        ("#{a}", "1", ("a",)),
        ("<#{a}#{a}>", "<11>", ("a", "a")),
        ("#{b}#{a}", "#{a}1", ("b", "a")),
        ("#{ a }", "spaced", (" a ",)),
        ("#{é}", "accent", ("é",)),
        ("#{}", "#{}", ()),
        ("#{}#{a}", "#{}1", ("a",)),
        ("#{a", "#{a", ()),
        ("#{{}", "brace", ("{",)),
        ("#{a\nb}", "line", ("a\nb",)),
        ("#a {a} ${a} #{a}}", "#a {a} ${a} 1}", ("a",)),
        ("\\#{a}", "\\1", ("a",)),
        ("##{a}", "#1", ("a",)),
    ],
)
def test_rendering(text: str, rendered: str, names: tuple[str, ...]) -> None:
    template = Template(text)
    assert template.render(VALUES.__getitem__) == rendered
    assert template.names == names


def test_what_the_lookup_raises_passes_through() -> None:
    with pytest.raises(KeyError):
        Template("#{nope}").render(VALUES.__getitem__)


def test_a_template_is_equal_and_printable_by_its_text() -> None:
    assert Template("#{a}") == Template("#{a}")
    assert Template("#{a}") != Template("#{b}")
    assert hash(Template("#{a}")) == hash(Template("#{a}"))
    assert (str(Template("#{a}")), repr(Template("#{a}"))) == ("#{a}", "Template('#{a}')")


TEXT = st.text(st.sampled_from("ab#{} \n"), max_size=30)


@given(TEXT, TEXT)
def test_every_placeholder_is_replaced_and_nothing_else(text: str, inserted: str) -> None:
    """Rendering with the placeholder itself gives the text back; the pieces between are never touched."""
    template = Template(text)
    assert template.render(lambda name: f"#{{{name}}}") == text
    marked = template.render(lambda _name: "\0")
    assert template.render(lambda _name: inserted) == marked.replace("\0", inserted)
    assert marked.count("\0") == len(template.names)
