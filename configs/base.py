"""Every field once: default, unit, meaning, symbol. The other configs change what they need.

The defaults are the paper's where the paper states them; [M] marks what is remembered rather
than checked, [I] what this project chose. docs/paper.md gives the sources.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "base"  # the run folder's default is runs/<name>
    config.seed = 0  # everything random is a function of (seed, step)

    config.model = model = ConfigDict()
    # "author": the first author's layer library; "fig1": the paper's Fig. 1; "ebgan": EBGAN's own
    # networks, to which n_h, repeats, skips and conv do not apply (models/ebgan_networks.py).
    model.preset = "author"
    model.resolution = 64  # pixels, height = width: 16, 32, 64, 128 or 256
    model.channels = 3  # 3 (RGB) or 1 (grey)
    model.n = 128  # n, base channel width
    model.n_h = 64  # N_h, size of h, the auto-encoder's code
    model.n_z = 64  # N_z, size of z, the generator's input
    model.repeats = 2  # convolutions per scale; "typically 2" [M]
    model.skips = True  # concatenate h0 (up-sampled) at every scale of a decoder
    model.carry_steps = 16_000  # steps over which the vanishing residual goes 1 → 0 [M]; 0: off
    model.init = "paper"  # "paper": truncated normal, σ = 0.01; "he": variance 2 / fan_in
    model.dtype = "float32"  # compute: "float32" or "bfloat16"; parameters are always float32
    # Algorithm of the convolutions; results agree up to rounding: "plain" (the definition),
    # "phases" and "winograd" (for CPUs), "transposed" (for accelerators) or "auto", which suits the
    # device (docs/performance.md).
    model.conv = "auto"

    config.began = began = ConfigDict()
    began.gamma = 0.5  # γ = E[L(G(z))] / E[L(x)], the diversity ratio, 0 to 1
    began.lambda_k = 0.001  # λ_k, what k_t moves by in a step, per unit of γ L(x) − L(G(z))
    # λ_p, 0: the paper's. A part of k_t in proportion to the last step's γ L(x) − L(G(z)) [I].
    began.lambda_p = 0.0
    began.k_init = 0.0  # k_0
    began.eta = 1  # η, 1: |v − D(v)|, 2: squared
    began.shared_z = False  # True: z_D = z_G, one generator forward instead of two
    began.alternating = False  # True: G's gradient is taken through the already updated D

    config.objective = objective = ConfigDict()
    # "began"; the others, each with its equation in began_jax/objectives: "began_cs", "denoising",
    # "variational", "ebgan", "ebgan_pt", "hinge" (D is a critic, no auto-encoder).
    objective.name = "began"
    objective.cs_weight = 0.1  # began_cs: of mean |Enc(G(z)) - z|, the paper's
    objective.noise_level = 0.1  # denoising: σ of D's input noise, pixels have the range 1 [I]
    objective.noise_steps = 0  # denoising: steps over which it falls to 0; 0: constant [I]
    objective.kl_weight = 0.05  # variational: β, the pixels' scale of Laplace noise [I]
    objective.margin = 0.2  # ebgan, ebgan_pt: m, of the mean error of an image's pixels [I]
    objective.pt_weight = 0.1  # ebgan_pt: of PT, the paper's

    config.optim = optim = ConfigDict()
    optim.learning_rate = 1e-4  # Adam's, for both networks; the paper starts in [5e-5, 1e-4]
    optim.b1 = 0.9  # β1 [M]
    optim.b2 = 0.999  # β2 [M]
    # The learning rate is halved when M_global stalls: its mean over so many steps is no lower than
    # that of the best such window.
    optim.decay_window_steps = 16_000
    optim.decay_threshold = 1e-4  # by this much at least it has to be lower
    optim.min_learning_rate = 2e-5  # floor of the decay
    optim.ema_half_life_images = 10_000  # half-life of G's moving average in images; 0: off [I]

    config.data = data = ConfigDict()
    data.source = "synthetic_faces"  # "synthetic_faces", "tfds", "folder" or "array"
    data.name = ""  # tfds: the data set's TFDS name; array: which array of an .npz
    data.split = "train"  # tfds: split
    data.path = ""  # folder: a directory or a zip; array: an .npy or .npz file
    data.crop = (
        "center"  # "center"; "celeba": 128×128 at (y 50, x 25) of the aligned 178×218 images
    )
    data.crop_size = 0  # center: side of the crop in pixels; 0: the shorter side
    data.max_bad_fraction = 0.01  # folder: a larger share of undecodable files stops the run
    data.num_images = 20_000  # synthetic_faces: size of the training set
    data.flip = False  # mirror each image with probability 1/2

    config.train = train = ConfigDict()
    train.batch_size = 16  # images a step, over all devices
    # Gradient accumulation: a batch that does not fit is divided into so many parts, computed one
    # after the other. The sums differ by rounding.
    train.microbatches = 1
    # Adam's moments are divided over the devices instead of copied to each: less memory, more time.
    train.shard_optimizer = False
    train.num_steps = 400_000  # steps; the paper: 400k–450k, good after 200k
    # Steps that the device makes without the host; 0: 1 on a CPU, up to 10 on an accelerator. Grids
    # and signals wait for the last of them.
    train.steps_per_dispatch = 0
    train.num_samples = 64  # images in a grid, from latents fixed for the whole run
    train.log_every_steps = 100  # metrics.jsonl and TensorBoard get means over so many steps
    train.sample_every_images = 64_000  # images seen between two grids
    train.checkpoint_every_steps = 2_000
    train.checkpoints_to_keep = 3  # the newest
    train.keep_checkpoint_every_steps = 0  # keep each multiple of it besides; 0: off

    config.health = health = ConfigDict()
    # What an alarm does (docs/troubleshooting.md): "warn": it is told; "stop": the run ends, its
    # last checkpoints are from before; "rollback": the last good checkpoint goes on with half the
    # learning rate and other latents.
    health.policy = "warn"
    health.max_rollbacks = 3  # the next alarm stops the run
    health.window_steps = 10_000  # so long k may stand at 0 or 1, and L(G(z)) / L(x) be off gamma
    health.grace_images = 50_000  # until then samples may be alike and the controller off

    config.eval = evaluation = ConfigDict()
    # Features of an evaluation: "random_conv" (needs no file), "efficientnet_lite0", "inception".
    evaluation.network = "random_conv"
    evaluation.weights = ""  # the network's .npz (README.md)
    evaluation.num_samples = 10_000  # a seed, against as many images of the data
    evaluation.num_seeds = 3
    # Training too evaluates, at each multiple of so many steps, one seed; 0: off. Slower by that.
    evaluation.every_steps = 0
    evaluation.samples_in_training = 2_000
    return config
