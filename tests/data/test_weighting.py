import numpy as np
import pytest

from mlic.data import class_weights
from mlic.errors import InputError

COUNTS, CLASSES = np.array([400, 100, 25]), ("person", "cat", "dog")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scheme": "none"}, [1, 1, 1]),
        ({}, [1 / 20, 1 / 10, 1 / 5]),
        ({"scheme": "inverse"}, [1 / 400, 1 / 100, 1 / 25]),
        ({"scale": {"person": 0.5}}, [0.025, 0.1, 0.2]),
    ],
)
def test_schemes(options: dict, expected: list[float]):
    weights = class_weights(COUNTS, CLASSES, **options)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "sqrt"}, "scheme: must be one of none, inverse_sqrt, inverse"),
        ({"scale": {"persn": 0.5}}, "no class named persn. The classes after curation are: person, cat, dog"),
        ({"scale": {"cat": float("inf")}}, "inf}: expected numbers of at least 0"),
        ({"scale": dict.fromkeys(CLASSES, 0)}, "and one above 0"),
    ],
)
def test_bad_settings_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        class_weights(COUNTS, CLASSES, **options)
