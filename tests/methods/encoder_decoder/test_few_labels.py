"""Parts of the labels, as the command line gives them."""

import pytest

from common.errors import InputError
from methods.encoder_decoder import few_labels


def test_fractions():
    assert few_labels.fractions("") == []
    assert few_labels.fractions("1, 0.01,0.1,1") == [0.01, 0.1, 1.0]
    for text in ("0", "1.5", "-0.1", "x", "nan", "0.5,inf"):
        with pytest.raises(InputError, match="--label_fraction"):
            few_labels.fractions(text)
