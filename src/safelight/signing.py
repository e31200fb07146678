"""HMAC signatures of URLs: the canonical text and its signature (reference/imagestore section 7)."""

import hashlib
import hmac
import re
from collections.abc import Iterable

SIGNATURE_PARAMETER = "hmac"
DEFAULT_DIGEST = "sha1"


def digest_is_supported(digest: str) -> bool:
    """Whether `digest` names a hash, in any case, that an HMAC can be made with."""
    try:
        return hashlib.new(digest.lower()).digest_size > 0
    except (ValueError, TypeError):
        return False


def signature(text: str, secret: str, digest: str = DEFAULT_DIGEST) -> str:
    """Lower-case hex HMAC of `text`."""
    return hmac.new(secret.encode(), text.encode("utf-8", "surrogateescape"), digest.lower()).hexdigest()


def canonical_uri(uri: str, excluded: Iterable[str]) -> str:
    """`uri` without the `key=value` parameters named in `excluded`; nothing is sorted or encoded anew.

    Each occurrence goes with the `&` after it, the character before it stays, and one trailing `?` or `&`
    is dropped at the end. Of two adjacent equal keys one remains: signers mirror that (sharp edge S32).
    A value ends at `;`, as it does for the query parser, and only the first `?` begins the query: whatever a
    client adds behind either stays in the signed text.
    """
    path, mark, query = uri.partition("?")
    for key in excluded:
        query = re.sub(rf"(^|&){re.escape(key)}=[^&;]*&?", r"\1", query)
    canonical = path + mark + query
    return canonical[:-1] if canonical.endswith(("?", "&")) else canonical


def sign(uri: str, secret: str, digest: str = DEFAULT_DIGEST, parameter: str = SIGNATURE_PARAMETER) -> str:
    """`uri`, raw path and query, with its signature appended as a parameter."""
    return f"{uri}{'&' if '?' in uri else '?'}{parameter}={signature(uri, secret, digest)}"
