import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from censusformer import hashing

uint64 = st.integers(0, 2**64 - 1)


def test_splitmix64_is_the_published_generator():
    # the first outputs of splitmix64 seeded with 1234567, as its authors' reference code prints them
    state, got = np.array([1234567], np.uint64), []
    for _ in range(5):
        got.append(int(hashing.splitmix64(state)[0]))
        state = state + np.uint64(0x9E3779B97F4A7C15)
    want = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert got == want


@given(st.lists(uint64, min_size=1, max_size=4))
def test_draw_is_the_same_for_scalars_and_arrays(words):
    one = hashing.draw(*words)
    many = hashing.draw(*(np.full(3, word, np.uint64) for word in words))
    assert one.dtype == np.uint64 and (many == one[0]).all()


def test_order_of_words_matters():
    assert hashing.draw(1, 2)[0] != hashing.draw(2, 1)[0]


def test_uniform_is_uniform_on_0_1():
    u = hashing.uniform(hashing.draw(7, np.arange(100_000, dtype=np.uint64)))
    assert u.min() >= 0 and u.max() < 1
    assert np.histogram(u, 20, (0, 1))[0] == pytest.approx(5000, abs=350)
    assert hashing.uniform(np.array([2**64 - 1], np.uint64))[0] < 1


@given(st.text(max_size=40))
def test_word_is_the_head_of_sha256(text):
    assert hashing.word(text) == int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)


def test_cell_key_names_data_set_and_cell():
    assert hashing.cell_keys(["d"], ["AAAC-1"])[0] == hashing.word("d:AAAC-1")
    with pytest.raises(ValueError, match="zip"):
        hashing.cell_keys(["d"], ["a", "b"])


@given(st.lists(uint64, max_size=5))
def test_hex_and_back(keys):
    keys = np.array(keys, np.uint64)
    texts = hashing.to_hex(keys)
    assert all(len(text) == 16 for text in texts)
    np.testing.assert_array_equal(hashing.from_hex(texts), keys)
