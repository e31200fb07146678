"""Logical operations of one request, counted where the older server counted its real ones (reference 9).

libvips joins many of them into one pass over the pixels, so these numbers say what was asked for, not what it
cost.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

CountName = Literal[
    "images_loaded",
    "reloaded",
    "downsampled",
    "thumbnails_created",
    "created_from_blob",
    "created_initialize",
    "created_initialize_copy",
    "created_resize",
    "created_crop",
    "created_sample",
    "created_blur_image",
    "created_composite",
    "created_rotate",
    "created_total",
    "destroyed_total",
]
Counts = Counter[CountName]

IDENTIFIED: Mapping[CountName, int] = {
    "images_loaded": 1,
    "created_from_blob": 1,
    "created_total": 1,
    "destroyed_total": 1,
}
"""What one identification adds: the older server decodes the image."""


def with_totals(counts: Counts) -> dict[CountName, int]:
    """The counts of a finished request: whatever was created is destroyed by now. Zeros are left out."""
    found: dict[CountName, int] = {name: count for name, count in counts.items() if count}
    created = sum(count for name, count in found.items() if name.startswith("created_"))
    return {**found, "created_total": created, "destroyed_total": created} if created else found
