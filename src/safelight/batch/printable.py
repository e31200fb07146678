"""Names and messages as one printable line: file names may hold anything but a slash and NUL."""


def printable(text: str) -> str:
    """`text` with control characters and undecodable bytes as escapes (`\\n`, `\\xff`, `\\u202e`)."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()
