"""How good samples are, as numbers: NumPy functions of features, logits or uint8 images.

The networks that features and logits come from are modules of their own here, and the functions
know nothing of them.
"""
