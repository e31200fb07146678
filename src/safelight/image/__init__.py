"""The image core: bytes and specifications in, encoded images out. Knows no HTTP and no configuration."""
