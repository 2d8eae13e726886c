"""The preset's `training` section: what is trained, on which classes, against which loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent.core.schema import Strict

HeadName = Literal["arcface", "noisy_arcmix", "adacos", "scadacos", "adaproj"]


class LoraSettings(Strict):
    """Low-rank adapters (Hu et al., ICLR 2022); merged into the weights when training ends."""

    rank: Annotated[
        int,
        Field(ge=1, description="Rank; at most the smaller side of a layer is used of it"),
    ] = 64
    alpha: Annotated[
        float | None,
        Field(gt=0, description="The update counts alpha / rank times; null for once"),
    ] = None
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="Share of an adapter's inputs dropped in training")
    ] = 0.0
    targets: Annotated[
        tuple[Literal["q", "k", "v", "out"], ...],
        Field(
            min_length=1,
            description="Projections of attention that are adapted; mn04 has none, and its "
            "1 x 1 convolutions are",
        ),
    ] = ("q", "v")
    first_blocks: Annotated[
        int | None,
        Field(ge=1, description="Only in this many blocks from the input; null for all"),
    ] = None


class ClassSettings(Strict):
    """What the classes are made of."""

    machines: Annotated[
        Literal["own", "all"],
        Field(
            description="all: the healthy recordings of the data set's other machines are classes "
            "as well (the bank and the threshold remain the one machine's)"
        ),
    ] = "own"
    domains: Annotated[
        Literal["always", "missing", "never"],
        Field(
            description="Source and target as classes of their own: always, where a recording has "
            "no attributes, or never"
        ),
    ] = "always"
    noise: Annotated[bool, Field(description="Noise-only recordings are a class")] = False
    clean: Annotated[
        bool,
        Field(description="Recordings of the clean machine are a class, rather than healthy ones"),
    ] = False
    pseudo: Annotated[
        Literal["auto", "never"],
        Field(
            description="Pseudo-attributes where no attribute differs: k-means clusters, when "
            "there are recordings enough"
        ),
    ] = "auto"
    pseudo_features: Annotated[
        Literal["log_mel", "embedding"],
        Field(description="What is clustered: mean log-mel spectra, or the encoder's embeddings"),
    ] = "log_mel"


class AugmentSettings(Strict):
    """What is done to a training window, anew each time it is shown."""

    spec_time: Annotated[
        int, Field(ge=0, description="SpecAugment: most frames that a mask covers; 0 for none")
    ] = 0
    spec_frequency: Annotated[
        int, Field(ge=0, description="SpecAugment: most bands that a mask covers; 0 for none")
    ] = 0
    spec_masks: Annotated[int, Field(ge=1, description="Masks a window, of either kind")] = 1
    speed: Annotated[
        float, Field(ge=0, le=0.2, description="Largest change of speed and pitch, as a share")
    ] = 0.0
    gain_db: Annotated[float, Field(ge=0, description="Largest change of level, dB")] = 0.0
    noise: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of windows that noise is added to: of the noise-only recordings, "
            "or pink noise where there are none",
        ),
    ] = 0.0
    noise_snr_db: Annotated[
        tuple[float, float], Field(description="Lowest and highest signal-to-noise ratio, dB")
    ] = (0.0, 20.0)

    @model_validator(mode="after")
    def _ordered(self) -> AugmentSettings:
        if self.noise_snr_db[0] > self.noise_snr_db[1]:
            raise ValueError("noise_snr_db: give the lowest ratio first")
        return self


class TrainingConfig(Strict):
    """How the encoder is trained."""

    kind: Annotated[
        Literal["frozen", "classify", "reconstruct"],
        Field(
            description="frozen: as it is; classify: tell operating conditions apart; "
            "reconstruct: restore healthy sound (autoencoders)"
        ),
    ] = "frozen"
    classification: Annotated[
        float,
        Field(
            ge=0,
            description="reconstruct: weight of the classification loss of the compressed form "
            "beside the squared error; 0 leaves it out",
        ),
    ] = 0.0
    tune: Annotated[
        Literal["full", "lora", "head"],
        Field(
            description="full: every weight; lora: low-rank adapters; head: only what is new "
            "(attentive pooling). A trainable pooling is trained in every case"
        ),
    ] = "full"
    lora: LoraSettings = LoraSettings()
    epochs: Annotated[int, Field(ge=1, description="Passes over the recordings")] = 10
    batch: Annotated[int, Field(ge=2, description="Windows a step, over all processes")] = 64
    accumulate: Annotated[
        int, Field(ge=1, description="Parts that a batch is computed in, to save memory")
    ] = 1
    optimizer: Annotated[
        Literal["adam", "adamw"],
        Field(description="adam adds weight decay to the gradient, adamw takes it off the weight"),
    ] = "adam"
    learning_rate: Annotated[float, Field(gt=0, description="Largest step size")] = 1e-3
    head_rate: Annotated[
        float,
        Field(
            gt=0,
            description="Step size of the loss's centres, as a multiple; they begin at random, and "
            "a pre-trained encoder shouldn't run after them",
        ),
    ] = 1.0
    weight_decay: Annotated[
        float, Field(ge=0, description="Weight decay of matrices and kernels")
    ] = 1e-5
    warmup_steps: Annotated[
        int, Field(ge=0, description="Steps over which the step size rises from zero, linearly")
    ] = 0
    schedule: Annotated[
        Literal["constant", "cosine"],
        Field(description="Step size afterwards: as it is, or falling to zero along a cosine"),
    ] = "constant"
    clip_norm: Annotated[
        float | None, Field(gt=0, description="Largest norm of a gradient; null for no bound")
    ] = None
    precision: Annotated[
        Literal["32", "bf16", "16"],
        Field(
            description="Arithmetic: float32, or mixed with bfloat16 or float16 (CUDA only); the "
            "front end and the loss stay float32"
        ),
    ] = "32"
    held_out: Annotated[
        float,
        Field(
            ge=0,
            le=0.5,
            description="Share of the healthy training recordings that is not learnt from. "
            "classify: their loss is watched, and the weights of its lowest epoch are kept; "
            "reconstruct: they alone calibrate the threshold",
        ),
    ] = 0.0
    patience: Annotated[
        int | None,
        Field(ge=1, description="Stop after this many epochs without a lower held-out loss"),
    ] = None
    keep_epochs: Annotated[
        tuple[int, ...],
        Field(
            description="classify: epochs, counted from 1, whose models are kept side by side as "
            "the equal parts of a joined encoder, for a fusion to average their scores; the last "
            "is the training's last. Empty for the last alone"
        ),
    ] = ()
    head: Annotated[
        HeadName,
        Field(
            description="Loss: arcface (sub-centre ArcFace with several `subcentres`), "
            "noisy_arcmix, adacos, scadacos (sub-cluster AdaCos, `subcentres` clusters), adaproj"
        ),
    ] = "arcface"
    margin: Annotated[float, Field(ge=0, description="Angular margin of the loss, radians")] = 0.5
    easy_margin: Annotated[
        bool,
        Field(description="No margin past a right angle; else a linear one past pi - margin"),
    ] = True
    scale: Annotated[
        float, Field(gt=0, description="Scale of the cosine logits of arcface and noisy_arcmix")
    ] = 30.0
    adaptive_scale: Annotated[
        bool,
        Field(
            description="Scale of adacos, scadacos, adaproj: adapted at each step, or left at its "
            "start, sqrt(2) ln(centres - 1)"
        ),
    ] = True
    subcentres: Annotated[
        int, Field(ge=1, description="Centres a class; 16 is usual for scadacos")
    ] = 1
    train_centres: Annotated[
        bool, Field(description="Whether the centres are learnt, or stay where they were drawn")
    ] = True
    subspace_dim: Annotated[
        int, Field(ge=1, description="Dimensions of a class's subspace (adaproj)")
    ] = 32
    learn_from: Annotated[
        Literal["embedding", "last_layer"],
        Field(
            description="What the loss sees: the whole embedding, or of a transformer the last of "
            "its `layers` alone; the others are part of the embedding all the same"
        ),
    ] = "embedding"
    mixup: Annotated[
        float, Field(ge=0, le=1, description="Share of batches (or windows, see `draw`) mixed up")
    ] = 0.5
    draw: Annotated[
        Literal["batch", "window"],
        Field(
            description="Whether mixup and FeatEx are drawn for a batch as a whole, with random "
            "partners in mixup, or for each window, whose partner is at the batch's other end"
        ),
    ] = "batch"
    mixup_alpha: Annotated[
        float,
        Field(gt=0, description="Beta(a, a) that the share of a mixture is drawn from; 1: uniform"),
    ] = 1.0
    feature_exchange: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of batches (or windows, see `draw`) whose branches are exchanged "
            "(FeatEx)",
        ),
    ] = 0.0
    classes: ClassSettings = ClassSettings()
    augment: AugmentSettings = AugmentSettings()
    ensemble: Annotated[int, Field(ge=1, description="Seeded models, concatenated")] = 1

    @model_validator(mode="after")
    def _agree(self) -> TrainingConfig:
        if self.batch % self.accumulate or self.batch // self.accumulate < 2:
            raise ValueError(
                f"accumulate: {self.accumulate} does not divide a batch of {self.batch} into parts "
                "of at least 2 windows"
            )
        if self.patience is not None and not self.held_out:
            raise ValueError(
                "patience: nothing is held out to lose patience with; set held_out, e.g. 0.1"
            )
        if self.keep_epochs:
            self._check_kept()
        if self.head == "scadacos" and self.subcentres < 2:
            raise ValueError("subcentres: scadacos needs at least 2 (16 is usual)")
        if self.head in {"adacos", "adaproj"} and self.subcentres > 1:
            raise ValueError(f"subcentres: {self.head} has none; leave it out, or use scadacos")
        return self

    def _check_kept(self) -> None:
        kept = self.keep_epochs
        if self.kind != "classify":
            raise ValueError(f"keep_epochs: is for kind: classify, not for {self.kind}")
        if len(kept) < 2 or list(kept) != sorted(set(kept)) or kept[0] < 1:
            raise ValueError("keep_epochs: give two epochs or more, ascending, from 1")
        if kept[-1] != self.epochs:
            raise ValueError(
                f"keep_epochs: ends with {kept[-1]}, and the training with epoch {self.epochs}"
            )
        if self.held_out:
            raise ValueError(
                "keep_epochs: held_out keeps the one epoch of the lowest loss; give one of the two"
            )
