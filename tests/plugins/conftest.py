"""The makers of pictures are shared with the tests of the image core."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "image"))
