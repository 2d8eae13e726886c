"""The demonstration, step by step."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agent.bundle.manifest import Manifest
from agent.core.errors import AuscultError, ConfigError
from agent.core.program import program
from agent.core.progress import progress_bar
from agent.core.text import plural
from agent.recordings.load import load_machines
from agent.recordings.model import Machine
from export.bundle import export_run
from export.demo.agent_process import DEVICE, PREFIX, AgentProcess, write_config
from export.demo.broker import EmbeddedBroker
from export.demo.live import LiveView
from export.demo.outcome import Outcome, Record, judge
from export.demo.report import Story, write_report
from export.demo.stream import Stream, splice_stream, synthesize_stream
from export.demo.subscriber import Subscriber
from trainer.learn import train_machine
from trainer.preset import Preset
from trainer.synth import Counts, Fault, design_machine, write_dataset
from trainer.synth.design import FaultKind

# Its presence says that a folder is a demonstration's own and may be written over.
MARKER = ".auscult-demo"
HOP_SECONDS = 1.0
# The agent loads its bundle, hears minutes of sound, and says goodbye; more means it hangs.
_SILENCE_SECONDS = 60.0
# After the agent's end, its last messages may still be on their way.
_LINGER_SECONDS = 2.0
SYNTHETIC = Counts(train_source=72, train_target=0, test_normal=8, test_anomaly=9)


@dataclass(frozen=True, slots=True)
class Options:
    """What is shown.

    Attributes:
        out: Folder for everything made.
        preset: The recipe.
        data: Real recordings; None synthesizes a machine.
        machine: Which machine of `data`; None when it holds one.
        weights: Where pre-trained checkpoints are.
        seed: Of the synthetic machine, its recordings and the training.
        fault: What breaks in the synthetic machine.
        severity: How badly.
        healthy_seconds: Length of healthy sound the agent hears (with `data`: at most).
        faulty_seconds: Length of faulty sound after it (with `data`: at most).
    """

    out: Path
    preset: Preset
    data: Path | None = None
    machine: str | None = None
    weights: Path | None = None
    seed: int = 0
    fault: FaultKind = "bearing"
    severity: float = 0.8
    healthy_seconds: float = 180.0
    faulty_seconds: float = 120.0


@dataclass(slots=True)
class _Clock:
    """Announces steps and times them."""

    console: Console
    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, number: int, title: str, done: str) -> Iterator[None]:
        self.console.print(f"[bold cyan]{number}/6[/] [bold]{escape(title)}[/]")
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self.steps.append((done, took))
        self.console.print(f"    [dim]{took:.1f} s[/]", highlight=False)


def show(options: Options, console: Console) -> Outcome:
    """Run the demonstration.

    Args:
        options: What to show.
        console: Where.

    Returns:
        How the detector did.

    Raises:
        AuscultError: A step cannot be done; nothing it started is left running.
    """
    out = _prepare(options.out)
    clock = _Clock(console)
    with clock.step(1, "Recordings of a machine", "recordings"):
        machine, stream = _recordings(options, out, console)
        healthy = len(machine.of("normal", "clean"))
        console.print(
            f"    {escape(machine.name)}: {plural(healthy, 'healthy recording')} in {machine.root}"
        )
        console.print(
            f"    what the agent will hear: {stream.seconds:.0f} s, from {stream.onset:.0f} s on "
            f"{escape(stream.fault)}"
        )
    run, bundle = out / "run", out / "bundle"
    epochs = options.preset.training.epochs
    trains = options.preset.training.kind != "frozen"
    title = f"Train with preset {options.preset.name}" + (
        f", {plural(epochs, 'epoch')}" if trains else ""
    )
    with clock.step(2, title, "training"):
        with progress_bar(console) as progress:
            record = train_machine(
                machine,
                options.preset,
                run,
                seed=options.seed,
                weights=options.weights,
                progress=progress,
            )
        if record.classes:
            classes = plural(record.classes, "class", "classes")
            console.print(f"    learnt {classes}: {escape(record.class_rule)}")
    with clock.step(3, "Export a bundle for the device", "export"):
        manifest = export_run(run, bundle, test=False, console=console)
    with clock.step(4, "Broker, agent, subscriber: the machine is listened to", "listening"):
        received = _listen(out, machine, manifest.window_seconds, stream, console)
    outcome = judge(received, stream)
    with clock.step(5, "Report", "report"):
        page, picture = write_report(
            out,
            Story(
                stream=stream,
                record=received,
                outcome=outcome,
                manifest=manifest,
                bundle_bytes=_size(bundle),
                steps=tuple(clock.steps),
                next_steps=next_steps(),
            ),
        )
    _tell(outcome, manifest, page, picture, console)
    return outcome


def _recordings(options: Options, out: Path, console: Console) -> tuple[Machine, Stream]:
    """The machine, and the stream the agent will hear."""
    path = out / "stream.wav"
    if options.data is not None:
        with progress_bar(console) as progress:
            machines = load_machines(
                options.data, (options.machine,) if options.machine else (), progress=progress
            )
        if len(machines) != 1:
            names = ", ".join(m.name for m in machines)
            raise ConfigError(
                f"holds {len(machines)} machines: {names}",
                where=options.data,
                remedy="Choose one with --machine.",
            )
        stream = splice_stream(
            path,
            machines[0],
            healthy_seconds=options.healthy_seconds,
            faulty_seconds=options.faulty_seconds,
            seed=options.seed,
        )
        return machines[0], stream
    design = design_machine(options.seed)
    data = out / "data"
    shutil.rmtree(data, ignore_errors=True)
    with progress_bar(console) as progress:
        write_dataset(data, design, seed=options.seed, counts=SYNTHETIC, progress=progress)
        machines = load_machines(data, progress=progress)
    fault = Fault(options.fault, options.severity)
    stream = synthesize_stream(
        path,
        design,
        fault,
        healthy_seconds=options.healthy_seconds,
        faulty_seconds=options.faulty_seconds,
        seed=options.seed,
    )
    return machines[0], stream


def _listen(
    out: Path, machine: Machine, window_seconds: float, stream: Stream, console: Console
) -> Record:
    """Start broker, subscriber and agent; collect what is published until the stream is over."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", machine.name).lstrip("._-") or "machine"
    record = Record(HOP_SECONDS, window_seconds)
    config, log = out / "agent.yaml", out / "agent.log"
    broker = EmbeddedBroker()
    # What was started last is stopped first, also on Ctrl-C.
    with ExitStack() as started:
        started.callback(broker.stop)
        broker.start()
        write_config(
            config,
            machine=name,
            bundle=out / "bundle",
            stream=stream.path,
            host=broker.host,
            port=broker.port,
            hop=HOP_SECONDS,
        )
        console.print(f"    broker at {broker.host}:{broker.port}", highlight=False)
        console.print(f"    subscriber to {PREFIX}/{DEVICE}/#", highlight=False)
        console.print(f"    auscult run --config {config}", highlight=False)
        subscriber = Subscriber(broker.host, broker.port, f"{PREFIX}/{DEVICE}/#")
        started.callback(subscriber.stop)
        subscriber.start()
        agent = AgentProcess(config, log)
        started.callback(agent.stop)
        agent.start()
        view = LiveView(console, stream, record)
        with view.shown():
            _collect(subscriber, agent, record, view)
    return record


def _collect(subscriber: Subscriber, agent: AgentProcess, record: Record, view: LiveView) -> None:
    """Take messages until the agent has ended and nothing more comes."""
    last = time.monotonic()
    while True:
        ended = agent.ended()
        message = subscriber.receive(_LINGER_SECONDS if ended else 0.2)
        if message is not None:
            last = time.monotonic()
            noted = record.take(*message)
            if noted is not None:
                view.update(noted)
        elif ended:
            return
        elif time.monotonic() - last > _SILENCE_SECONDS:
            raise AuscultError(
                f"the agent has published nothing for {_SILENCE_SECONDS:.0f} s",
                remedy="See agent.log beside the report.",
            )


def _tell(
    outcome: Outcome, manifest: Manifest, page: Path, picture: Path, console: Console
) -> None:
    colour = "green" if outcome.detected else "red"
    console.print(f"[bold cyan]6/6[/] [bold {colour}]{escape(outcome.verdict())}[/]")
    console.print(
        f"    healthy windows above the threshold: {outcome.healthy_exceeded} of "
        f"{outcome.healthy_windows} (calibrated for "
        f"{100 * manifest.threshold.false_alarm_rate:.2g} %); faulty: {outcome.faulty_exceeded} of "
        f"{outcome.faulty_windows}"
    )
    if outcome.missing:
        console.print(
            f"    [yellow]{plural(outcome.missing, 'window')} never reached the subscriber[/]"
        )
    console.print(f"    report: {page}\n    picture: {picture}", highlight=False)
    console.print("\n[bold]With your machine:[/]")
    console.print(next_steps(), highlight=False, markup=False, soft_wrap=True)


def next_steps() -> str:
    """What to type with a machine of one's own, with the path of this environment where needed."""
    auscult = program()
    return f"""\
# 1. Record the healthy machine: some minutes at every load, as WAV or FLAC, into my-fan/normal/
{auscult} record --label healthy --seconds 1200 --out my-fan
# 2. Learn it
{auscult} learn my-fan --out my-fan.bundle
# 3. Write a first agent.yaml: the bundle, the microphone, your broker; then listen
{auscult} init
{auscult} run --config agent.yaml"""


def _prepare(out: Path) -> Path:
    """The output folder, made or known to be a former demonstration's.

    Raises:
        ConfigError: It holds something else, or cannot be made.
    """
    out = out.absolute()
    try:
        if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
            raise ConfigError(
                "is not empty, and no demonstration was here before",
                where=out,
                remedy="Name a new folder with --out.",
            )
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text("This folder was made by `auscult demo` and is written over.\n")
    except OSError as fault:
        raise ConfigError(
            f"cannot be written: {fault.strerror}", where=out, remedy="Name another with --out."
        ) from fault
    return out


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
