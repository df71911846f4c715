import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from began_jax.data import order


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 50), st.integers(0, 5))
def test_batches_in_a_row_are_the_epochs_in_a_row(seed, num_images, batch_size, first_step):
    steps = range(first_step, first_step + 6)
    batches = [order.batch_indices(seed, step, batch_size, num_images) for step in steps]
    stop = steps.stop * batch_size
    epochs = [order.epoch_order(seed, epoch, num_images) for epoch in range(stop // num_images + 1)]
    expected = np.concatenate(epochs)[first_step * batch_size : stop]
    np.testing.assert_array_equal(np.concatenate(batches), expected)


@given(st.integers(0, 2**32 - 1), st.integers(0, 1000), st.integers(1, 500))
def test_an_epoch_shows_every_image_once(seed, epoch, num_images):
    np.testing.assert_array_equal(
        np.sort(order.epoch_order(seed, epoch, num_images)), np.arange(num_images)
    )


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = {tuple(order.epoch_order(seed, epoch, 100)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_an_order_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        order.epoch_order(0, 0, 10)[0] = 1


def test_a_subset_is_of_different_images_in_no_order_and_begins_with_the_smaller_one():
    found = order.subset(1000, 100)
    assert len(set(found)) == 100
    assert found.min() < 50
    assert found.max() > 950
    np.testing.assert_array_equal(order.subset(1000, 10), found[:10])
    np.testing.assert_array_equal(np.sort(order.subset(7, 100)), np.arange(7))
