"""The modules beside the benchmarks, importable as they are for the benchmarks themselves."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent.parent / "benchmarks"))
