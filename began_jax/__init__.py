"""BEGAN (Berthelot, Schumm, Metz 2017) in JAX: faithful, exactly resumable, measured."""

__version__ = "0.1.0"
