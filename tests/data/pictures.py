"""Pictures for the tests of sources: flat, so that one value tells which it is."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from winnow.data.open import open_source
from winnow.errors import InputError


def png(value=0, size=10):
    buffer = BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def value_of(source, row):
    """The one grey level of a picture made by `png`."""
    pixels = source.pictures.read(row)
    assert (pixels == pixels[0, 0, 0]).all()
    return int(pixels[0, 0, 0])


def message(*arguments, error=InputError, **options):
    """The one line that opening a source ends with."""
    with pytest.raises(error) as caught:
        open_source(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
