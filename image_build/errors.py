"""What can be wrong with an image, and with what it is to be made from."""

from __future__ import annotations

from foundation.refusal import Refused


class ImageRefused(Refused):
    """An input, a declaration or an image is not as it has to be."""

    stage = "image"
