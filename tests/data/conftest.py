"""Real data that several tests look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Digits = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture
def digits() -> Digits:
    """Scikit-learn's real handwritten digits: X float64 [1797, 64], y int64 [1797]."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.asarray(images), np.asarray(labels)
