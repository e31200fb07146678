"""Strong entity tags (RFC 9110, section 8.8.3)."""

from functools import lru_cache
from hashlib import blake2b


@lru_cache(4096)
def entity_tag(content: object, content_type: str) -> str:
    """The tag, with its quotes, of a body of `content_type`; `content` tells it from every other.

    A hash, so that nothing about the file system can be read from it.
    """
    return f'"{blake2b(repr((content, content_type)).encode(), digest_size=16).hexdigest()}"'
