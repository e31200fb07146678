"""What must never be shown: secrets in configuration text, in whatever way they are written."""

import difflib
import re

MASK = "***"
EXAMPLE = '"0f0f0..."'
"""The secret that a message of the reference shows as an example."""

_SECRETS = ("secret", "lockpicks", "password", "session-token")
_ATTRIBUTE = re.compile(
    r"""(?P<name>[\w.$-]+)=(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|[^\s"'`]+)"""
)
_USER_INFO = re.compile(r"(://[^/\s:@\"']*):[^/\s\"']+@")
_UNFINISHED = re.compile(r"(?P<name>[\w.$-]+)\s*=\s*$")
_QUOTED = re.compile(r"(?<!\w)'.*'(?!\w)")


def is_secret(name: str) -> bool:
    """Whether an attribute of this name holds a secret; a misspelt name counts as well."""
    return bool(difflib.get_close_matches(name.lower(), _SECRETS, 1, 0.7))


def masked(text: str) -> str:
    """`text` without the values of secret attributes and without passwords in URLs."""
    return _USER_INFO.sub(rf"\1:{MASK}@", _ATTRIBUTE.sub(_masked_attribute, text))


def masked_complaint(message: str, before: str) -> str:
    """A complaint about what follows `before` on its line: a word after `secret=` is not repeated."""
    unfinished = _UNFINISHED.search(before)
    if unfinished and is_secret(unfinished["name"]):
        message = _QUOTED.sub(f"'{MASK}'", message)
    return masked(message)


def _masked_attribute(found: "re.Match[str]") -> str:
    shown = found["value"] == EXAMPLE or not is_secret(found["name"])
    return found[0] if shown else f'{found["name"]}="{MASK}"'
