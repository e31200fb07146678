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
    """
    for key in excluded:
        uri = re.sub(rf"([?&]){re.escape(key)}=[^&]*&?", r"\1", uri)
    return uri.removesuffix(uri[-1:]) if uri.endswith(("?", "&")) else uri


def sign(uri: str, secret: str, digest: str = DEFAULT_DIGEST, parameter: str = SIGNATURE_PARAMETER) -> str:
    """`uri`, raw path and query, with its signature appended as a parameter."""
    return f"{uri}{'&' if '?' in uri else '?'}{parameter}={signature(uri, secret, digest)}"
