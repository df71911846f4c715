import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from began_jax import sharding
from benchmarks import scaling


def test_what_is_summed_over_the_devices_is_read_from_the_program():
    mesh = sharding.make_mesh(4, jax.devices()[:4])
    parts = NamedSharding(mesh, PartitionSpec("data"))
    arrays = [sharding.put(np.ones((4, size), np.float32), parts) for size in (3, 5)]
    whole = sharding.replicated(mesh)
    summed = jax.jit(lambda xs: [x.sum(0) for x in xs], out_shardings=whole)
    text = summed.lower(arrays).compile().as_text()
    assert sorted(scaling.all_reduced(text)) == [12, 20]
    assert scaling.all_reduced("ROOT %x = f32[3]{0} add(%a, %b)") == []
