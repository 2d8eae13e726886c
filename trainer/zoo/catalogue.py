"""The published checkpoints: names, licences, where they are, and what they weigh.

Sources are those their authors name. Nothing here was downloaded when it was written: lengths
follow from the number of values, and the one checksum known is mn04's. `fetch` records the
checksum of what it downloaded, so that later damage shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.encoder_config import EncoderConfig

MIT, APACHE = "MIT", "Apache-2.0"
_HUGGING_FACE = "https://huggingface.co"
_BEATS = "https://github.com/microsoft/unilm/tree/master/beats"
_ZENODO = "https://zenodo.org/records/11511780"
_M2D = "https://github.com/nttcslab/m2d"
_M2D_LICENCE = "NTT evaluation agreement, not for commercial use"
_DASHENG_LICENCE = "not confirmed (code Apache-2.0)"


@dataclass(frozen=True, slots=True)
class Published:
    """One published checkpoint.

    Attributes:
        name: What `fetch` calls it.
        family: Encoder, as `encoder.kind` in presets.
        size: Its size, as `encoder.size`.
        file: Where it belongs in the folder of checkpoints, as `encoder.weights`. M2D's folders
            must keep their published names.
        licence: Of the weights.
        page: Where its authors publish it.
        values: Numbers it holds, in float32 unless the file says otherwise; sets its length.
        url: Direct download; empty where there is none that can be relied on.
        archive: The download is a zip archive that holds the file's folder.
        beside: Further files to fetch from beside it.
        sha256: When known; empty otherwise.
    """

    name: str
    family: str
    size: str
    file: str
    licence: str
    page: str
    values: int
    url: str = ""
    archive: bool = False
    beside: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def megabytes(self) -> int:
        """About what it weighs, MB."""
        return max(1, round(self.values * 4 / 1e6))


def _beats(name: str, values: int) -> Published:
    return Published(name, "beats", "base", f"{name}.pt", MIT, _BEATS, values)


def _eat(name: str, size: str, values: int) -> Published:
    page = f"{_HUGGING_FACE}/worstchan/{name}"
    return Published(
        name,
        "eat",
        size,
        f"{name}/model.safetensors",
        MIT,
        page,
        values,
        url=f"{page}/resolve/main/model.safetensors",
        beside=("config.json",),
    )


def _dasheng(name: str, size: str, values: int) -> Published:
    return Published(
        name,
        "dasheng",
        size,
        f"{name}.pt",
        _DASHENG_LICENCE,
        _ZENODO,
        values,
        url=f"{_ZENODO}/files/{name}.pt?download=1",
    )


def _m2d(name: str, size: str, file: str, release: str, values: int) -> Published:
    return Published(
        name,
        "m2d",
        size,
        f"{name}/{file}",
        _M2D_LICENCE,
        _M2D,
        values,
        url=f"{_M2D}/releases/download/{release}/{name}.zip",
        archive=True,
    )


_EAT_BASE, _EAT_LARGE = 89_972_736, 308_867_072
_M2D_608, _M2D_1001 = 85_400_834, 85_492_994

CATALOGUE: tuple[Published, ...] = (
    _beats("BEATs_iter3", 90_354_032),
    _beats("BEATs_iter3_plus_AS2M", 90_354_032),
    _beats("BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt1", 90_759_295),
    _beats("BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2", 90_759_295),
    _eat("EAT-base_epoch30_pretrain", "base", _EAT_BASE),
    _eat("EAT-base_epoch30_finetune_AS2M", "base", _EAT_BASE),
    _eat("EAT-large_epoch20_pretrain", "large", _EAT_LARGE),
    _eat("EAT-large_epoch20_finetune_AS2M", "large", _EAT_LARGE),
    _m2d(
        "m2d_vit_base-80x608p16x16-221006-mr7_enconly",
        "80x608p16x16",
        "checkpoint-300.pth",
        "v0.1.0",
        _M2D_608,
    ),
    _m2d(
        "m2d_as_vit_base-80x1001p16x16-240213_AS-FT_enconly",
        "80x1001p16x16",
        "weights_ep69it3124-0.48494.pth",
        "v0.3.0",
        _M2D_1001,
    ),
    _m2d(
        "m2d_as_vit_base-80x1001p16x16p32k-240413_AS-FT_enconly",
        "80x1001p16x16p32k",
        "weights_ep69it3124-0.47998.pth",
        "v0.3.0",
        _M2D_1001,
    ),
    _dasheng("dasheng_base", "base", 85_464_897),
    _dasheng("dasheng_06b", "06b", 630_350_657),
    _dasheng("dasheng_12b", "12b", 1_134_064_449),
    Published(
        "MuQ-large-msd-iter",
        "muq",
        "large",
        "MuQ-large-msd-iter/model.safetensors",
        "CC-BY-NC 4.0, not for commercial use",
        f"{_HUGGING_FACE}/OpenMuQ/MuQ-large-msd-iter",
        333_440_434,
        url=f"{_HUGGING_FACE}/OpenMuQ/MuQ-large-msd-iter/resolve/main/model.safetensors",
        beside=("config.json",),
    ),
    Published(
        "mn04_as_mAP_432",
        "mn04",
        "",
        "mn04_as_mAP_432.pt",
        MIT,
        "https://github.com/fschmid56/EfficientAT",
        990_000,
        url="https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt",
        sha256="899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    ),
    Published(
        "yamnet_spectra_in",
        "yamnet",
        "",
        "yamnet_spectra_in.tflite",
        APACHE,
        "https://github.com/google-coral/coralmicro",
        1_000_000,
    ),
    Published(
        "speech_embedding",
        "speech_embedding",
        "",
        "speech_embedding.onnx",
        APACHE,
        "https://github.com/dscripka/openWakeWord",
        330_000,
    ),
)


def find(name: str) -> Published | None:
    """The entry of a name, with or without its file's suffix."""
    plain = name.removesuffix(".pt").removesuffix(".tflite").removesuffix(".onnx")
    return next((entry for entry in CATALOGUE if entry.name == plain), None)


def licence_of(config: EncoderConfig) -> str:
    """Terms that bind an encoder's weights, for people; empty without published weights.

    Args:
        config: The preset's `encoder` section; the parts of a joined one count each.
    """
    found: list[str] = []
    for part in config.each:
        if part.weights is None:
            continue
        known = [entry for entry in CATALOGUE if entry.family == part.kind]
        named = [entry for entry in known if entry.file.endswith(part.weights)] or known
        found.extend(f"{part.kind}: {entry.licence}" for entry in named[:1])
    return "; ".join(dict.fromkeys(found))
