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
        ("effective_number", [(1 - 0.99) / (1 - 0.99**n) for n in COUNTS]),
    ],
)
def test_schemes(scheme: str, expected: list[float]):
    weights = class_weights(COUNTS, CLASSES, scheme=scheme, beta=0.99)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_the_default_is_the_inverse_root_scaled():
    np.testing.assert_allclose(
        class_weights(COUNTS, CLASSES, scale={"person": 0.5}), [0.025, 0.1, 0.2], rtol=1e-6
    )


def test_effective_number_lies_between_none_and_inverse():
    np.testing.assert_allclose(class_weights(COUNTS, CLASSES, scheme="effective_number", beta=0.0), 1)
    nearly = class_weights(COUNTS, CLASSES, scheme="effective_number", beta=1 - 1e-9)
    np.testing.assert_allclose(nearly * COUNTS, 1, rtol=1e-3)


def test_normalized_weights_have_mean_one_after_scaling():
    plain = class_weights(COUNTS, CLASSES, scale={"dog": 3})
    normalized = class_weights(COUNTS, CLASSES, scale={"dog": 3}, normalize=True)
    assert normalized.mean() == pytest.approx(1)
    np.testing.assert_allclose(normalized / normalized[0], plain / plain[0], rtol=1e-6)


def test_a_class_without_images_has_a_finite_weight():
    assert class_weights(np.array([0, 4]), ("a", "b")).tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "sqrt"}, "scheme: 'sqrt' is none of none, inverse_sqrt, inverse, effective_number"),
        ({"scale": {"persn": 0.5}}, "no class named persn. The classes after curation are: person, cat, dog"),
        ({"scale": {"cat": -1}}, r"scale.cat=-1: expected a number of at least 0"),
        ({"scale": {"cat": float("inf")}}, r"scale.cat=inf: expected"),
        ({"scale": dict.fromkeys(CLASSES, 0)}, "scale is 0 for every class"),
        ({"beta": 1.0}, r"beta=1.0: expected a number from 0"),
    ],
)
def test_bad_settings_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        class_weights(COUNTS, CLASSES, **options)
