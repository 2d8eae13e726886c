"""An INT8 graph lent by another machine's bundle, so that both bundles hold the same file.

INT8 is calibrated on a machine's own sound, which makes each machine's graph another file. Bundles
of one device that hold the same file share one session (`agent.encode.sessions`), so that its
weights lie in memory once. Whether a lent graph is good enough is measured as for one's own: by its
embeddings of this machine's windows beside the float graph's.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from agent.bundle.manifest import FLOAT_ENCODER, EncoderInfo, Quantization
from agent.bundle.verify import read_manifest
from agent.learn.assemble import Graph
from agent.learn.encoders import encoder_of
from export.compare import Comparison
from trainer.graph.onnx_graph import ExportError
from trainer.preset import QuantizationConfig

# What has to be the same of two encoders before their graphs are held against each other.
_SAME = ("kind", "sample_rate", "window_samples", "dim", "opset")
_OWN = "Leave --encoder-from out to calibrate INT8 on this machine's sound"


@dataclass(frozen=True, slots=True)
class Lent:
    """A graph of another bundle.

    Attributes:
        bundle: Whose.
        digest: Of that bundle's manifest.
        quantization: What INT8 changed there.
    """

    bundle: Path
    digest: str
    quantization: Quantization

    def facts(self, own: Graph) -> Graph:
        """What is known of the graph in this machine's bundle.

        Args:
            own: What was measured of it here.
        """
        known = self.quantization
        quantization = own.quantization.model_copy(
            update={
                "mode": known.mode, "int8_nodes": known.int8_nodes,
                "float_nodes": known.float_nodes,
            }
        )  # fmt: skip
        note = f"its encoder's graph is that of the bundle {self.digest[:12]}"
        return Graph(quantization, own.views, own.similar, own.grid, (note,))

    def refuse(self, comparison: Comparison, bounds: QuantizationConfig) -> None:
        """Refuse a graph that embeds this machine's sound unlike the run's own encoder.

        Raises:
            ExportError: The mean cosine is below the preset's bound.
        """
        if not comparison.cosine_mean >= bounds.min_cosine:
            raise ExportError(
                "its graph does not give what this run's encoder gives: the mean cosine of their "
                f"embeddings of this machine's windows is {comparison.cosine_mean:.4f}, the preset "
                f"demands {bounds.min_cosine:g}. No bundle was written",
                where=self.bundle,
                remedy=f"It has to be a bundle of the same preset and weights. {_OWN}.",
            )


def lend(bundle: Path, out: Path, info: EncoderInfo) -> Lent:
    """Copy a bundle's INT8 graph, with its parts for windows that share frames.

    Args:
        bundle: Whose; every file in it is held against its manifest.
        out: Folder of the bundle to be.
        info: What the run's own encoder takes and gives.

    Raises:
        BundleError: It is no bundle, or was altered.
        ExportError: Its encoder is of another kind, or was not quantized.
    """
    ready = encoder_of(bundle)
    for name in _SAME:
        its, own = getattr(ready.info, name), getattr(info, name)
        if its != own:
            raise ExportError(
                f"its encoder is another: its {name} is {its}, this run's {own}",
                where=bundle,
                remedy=f"Name a bundle of the same preset, exported by this auscult. {_OWN}.",
            )
    if ready.info.precision != "int8":
        raise ExportError(
            "its encoder was not quantized, and float graphs of the same weights are the same file",
            where=bundle,
            remedy="Export with --float instead.",
        )
    for name in ready.files:
        if name != FLOAT_ENCODER:  # that is the run's own
            shutil.copyfile(bundle / name, out / name)
    return Lent(bundle, read_manifest(bundle).digest, ready.graph.quantization)
