import numpy as np
import pytest

from mlic.data import class_weights
from mlic.errors import InputError

COUNTS, CLASSES = np.array([400, 100, 25]), ("person", "cat", "dog")


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("none", [1, 1, 1]),
        ("inverse_sqrt", [1 / 20, 1 / 10, 1 / 5]),
        ("inverse", [1 / 400, 1 / 100, 1 / 25]),
    ],
)
def test_schemes(scheme: str, expected: list[float]):
    weights = class_weights(COUNTS, CLASSES, scheme=scheme)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_the_default_is_the_inverse_root_scaled():
    np.testing.assert_allclose(
        class_weights(COUNTS, CLASSES, scale={"person": 0.5}), [0.025, 0.1, 0.2], rtol=1e-6
    )


def test_a_class_without_images_has_a_finite_weight():
    assert class_weights(np.array([0, 4]), ("a", "b")).tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "sqrt"}, "scheme: must be one of none, inverse_sqrt, inverse, got 'sqrt'"),
        ({"scale": {"persn": 0.5}}, "no class named persn. The classes after curation are: person, cat, dog"),
        ({"scale": {"cat": -1}}, r"scale.cat=-1: expected a number of at least 0"),
        ({"scale": {"cat": float("inf")}}, r"scale.cat=inf: expected"),
        ({"scale": dict.fromkeys(CLASSES, 0)}, "scale is 0 for every class"),
    ],
)
def test_bad_settings_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        class_weights(COUNTS, CLASSES, **options)
