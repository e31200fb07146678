"""The image core: bytes and specifications in, encoded images out. Knows no HTTP and no configuration."""

import os

# For numpy, which reads it once: products of small matrices are slower by far on several threads (`linear`).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
