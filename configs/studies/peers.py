"""What public code does otherwise than configs/studies/small.py, one thing at a time and together.

That the paper keeps no average of G either, and the two rates, are here for comparison.
"""

from began_jax.schema import Config
from launch.studies import Study


def get_study(base: Config) -> Study:
    rate, gain = base.optim.learning_rate, base.began.lambda_k
    public = {
        "alternating": "config.began.alternating=True",
        **({"no skips": "config.model.skips=False"} if base.model.num_scales > 1 else {}),
        "β1 = 0.5": "config.optim.b1=0.5",
        "no average of G": "config.optim.ema_half_life_images=0",
    }
    changes = {
        "one draw of z": "",
        **public,
        "those together": " ".join(public.values()),
        "η = 2": "config.began.eta=2",
        "learning rate / 2": f"config.optim.learning_rate={rate / 2}",
        "λ_k / 10": f"config.began.lambda_k={gain / 10}",
    }
    shared = {label: f"config.began.shared_z=True {text}" for label, text in changes.items()}
    return Study(
        question="What do public code's choices cost?",
        points={"two draws of z": "config.began.shared_z=False", **shared},
    )
