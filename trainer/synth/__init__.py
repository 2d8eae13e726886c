"""A small fan with its motor, bearing and belt, synthesized from the physics that makes them sound.

For the demonstration, for tests, and for choosing methods on machines that nobody tuned them on:
each seed gives another machine (`design_machine`), rendered healthy or faulty (`render`), as a
folder of recordings in either layout the trainer reads (`write_dataset`).
"""

from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import Fault, MachineDesign, design_machine
from trainer.synth.render import Operation, render, render_background, steady, varying

__all__ = [
    "Counts",
    "Fault",
    "MachineDesign",
    "Operation",
    "design_machine",
    "render",
    "render_background",
    "steady",
    "varying",
    "write_dataset",
]
