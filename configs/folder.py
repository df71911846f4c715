"""Your own images: a directory tree or a zip, of any sizes and modes.

    python main.py --config=configs/folder.py --config.data.path=photos --workdir=runs/photos

The central square of each image is scaled to config.model.resolution. For aligned CelebA images
(178×218, or their zip) add --config.data.crop=celeba; for text or maps --config.data.flip=False.

Hardware and time: as the CelebA config of the same resolution.
Expected: depends on the images.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "folder"
    config.model.resolution = 64
    config.model.n = 64
    config.data.source = "folder"
    config.data.flip = True
    return config
