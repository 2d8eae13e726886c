"""A bundle is held to the answers it gave at export, wherever it is opened."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from support.bundles import DIM, FAULTY_HZ, RATE, WINDOW, tone, write
from support.parity import add_parity

from agent.bank.draft import draft_add
from agent.bank.grow import make_version
from agent.bank.sound import embed_sound, find_sound
from agent.bundle.events import BundleEventKind
from agent.bundle.manifest import ENCODER, FLOAT_ENCODER, MANIFEST, PARITY_FILES
from agent.bundle.parity_windows import made_up, sha256_of
from agent.bundle.seal import seal
from agent.bundle.verify import read_manifest
from agent.commands.doctor import doctor
from agent.commands.score import score
from agent.core.errors import BundleError
from agent.deploy import parity as module
from agent.deploy.ledger import BundleLedger
from agent.deploy.load import open_bundle
from agent.deploy.swap import with_session_of
from agent.deploy.trust import Opening, TrustedBundle
from agent.deploy.versions import Versions, active_bundle, beside
from agent.encode.frames import FrameLayout
from agent.encode.processor import in_words, read_processor, this_processor

WRONG = 0.3  # share of noise that turns embeddings to a cosine of some 0.9


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "pump")


def test_made_up_windows_are_the_same_everywhere():
    windows = made_up(0, 4, WINDOW)
    assert windows.shape == (4, WINDOW)
    assert sha256_of(windows).startswith("b65534be0d973c63")
    np.testing.assert_array_equal(made_up(0, 2, WINDOW), windows[:2])
    assert sha256_of(made_up(1, 4, WINDOW)) != sha256_of(windows)
    level = 20 * np.log10(np.sqrt(np.mean((windows / 2.0**15) ** 2, axis=1)))
    assert (level > -35).all()
    assert (level < -15).all()
    assert np.abs(windows.astype(int)).max() < 2**15 - 1  # nothing is clipped


@pytest.mark.parametrize("sound", [True, False])
def test_a_bundle_that_agrees_opens(bundle, sound):
    add_parity(bundle, sound=sound)
    opened = open_bundle(bundle)
    opened.close()
    assert opened.parity.used.graph == ENCODER
    assert opened.parity.used.cosine > 0.999999
    assert opened.parity.used.score < 1e-3
    assert opened.fallback == ""


def test_beyond_the_bound_the_float_graph_judges_and_it_is_said(bundle, caplog):
    add_parity(bundle, plain=True, turned=WRONG)
    opened = open_bundle(bundle)
    try:
        assert opened.parity.used.graph == FLOAT_ENCODER
        assert "judging by the float32 graph: INT8 gives other answers" in opened.fallback
        assert "encoder.onnx: least cosine 0." in opened.fallback
        assert in_words(this_processor()) in opened.fallback
        assert opened.fallback in caplog.text
        (healthy, faulty), _ = opened.scorer.score(
            opened.encoder.encode(np.stack([tone(1, seed=9), tone(1, FAULTY_HZ, seed=9)]))
        )
        assert healthy < opened.manifest.threshold.value < faulty
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"turned": WRONG}, r"encoder\.onnx: gives other answers on this processor"),
        ({"turned": WRONG, "plain": True, "plain_turned": WRONG}, "no graph gives the answers"),
        ({"scored": 1.0}, "scores off by"),
    ],
)
def test_without_a_graph_that_agrees_it_is_refused(bundle, changes, words):
    add_parity(bundle, **changes)
    with pytest.raises(BundleError, match=words) as fault:
        open_bundle(bundle)
    assert "export --float" in fault.value.remedy


def test_an_answer_that_is_no_number_is_no_answer(bundle, monkeypatch):
    add_parity(bundle)
    real = module.OnnxEncoder.encode
    monkeypatch.setattr(
        module.OnnxEncoder, "encode", lambda self, waveforms: real(self, waveforms) * np.nan
    )
    with pytest.raises(BundleError, match="gives other answers"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: np.save(f / PARITY_FILES[0], np.zeros((2, DIM), np.float32)), "for 5 windows"),
        (lambda f: np.save(f / PARITY_FILES[1], np.full(5, np.nan, np.float32)), "finite float32"),
        (lambda f: (f / PARITY_FILES[1]).write_bytes(b"x"), "not a NumPy array"),
        (lambda f: (f / "healthy_sound.flac").write_bytes(b"x"), "cannot be read"),
    ],
)
def test_answers_that_cannot_be_used_are_named(bundle, damage, words):
    add_parity(bundle)
    damage(bundle)
    seal(bundle, read_manifest(bundle))
    with pytest.raises(BundleError, match=words):
        open_bundle(bundle)


def test_a_manifest_lists_what_its_parity_names(bundle):
    add_parity(bundle, plain=True)
    (bundle / FLOAT_ENCODER).unlink()
    seal(bundle, read_manifest(bundle))
    with pytest.raises(BundleError, match=r"lists no encoder\.float\.onnx"):
        open_bundle(bundle)


def test_windows_that_numpy_makes_otherwise_are_told_as_such(bundle):
    add_parity(bundle)
    manifest = read_manifest(bundle)
    parity = manifest.parity.model_copy(update={"made_up_sha256": "0" * 64})
    seal(bundle, manifest.model_copy(update={"parity": parity}))
    with pytest.raises(BundleError, match=r"NumPy .* makes other windows"):
        open_bundle(bundle)


class Parts:
    """An encoder in parts, whose body is wrong or right."""

    def __init__(self, vectors, error) -> None:
        self.vectors, self.error = vectors, error
        self.layout = FrameLayout(hop=80, head=0, tail=0, chunk=10, count=WINDOW // 80)

    def frames(self, chunks):
        return chunks[:, None, ::80]

    def encode(self, waveforms):
        raise AssertionError("the parts are asked")

    def embed_frames(self, frames, waveform):
        self.vectors = np.roll(self.vectors, -1, axis=0)
        return self.vectors[-1:] + self.error


@pytest.mark.parametrize(("error", "agree"), [(0.0, True), (100.0, False)])
def test_the_graph_in_parts_is_held_to_them_too(bundle, caplog, error, agree):
    add_parity(bundle)
    opened = open_bundle(bundle)
    opened.close()
    check = module.ParityCheck(bundle, opened.manifest, opened.manifest.parity, opened.scorer)
    vectors = np.load(bundle / PARITY_FILES[0])[[0, -1]]
    error = error * np.random.default_rng(0).standard_normal(DIM).astype(np.float32)
    assert check.parts_agree(Parts(vectors, error)) is agree
    assert ("share no frames" in caplog.text) is not agree


def test_a_grown_bank_is_held_to_the_same_embeddings_and_its_own_scores(bundle, tmp_path):
    add_parity(bundle, plain=True)
    # The made-up hum is healthy from now on.
    (_, hum, _), rng = made_up(0, 3, WINDOW) / 2.0**15, np.random.default_rng(0)
    for n in range(4):
        write(tmp_path / "new" / f"n{n}.wav", hum + 0.001 * rng.standard_normal(WINDOW))
    versions = Versions(bundle, beside(bundle))
    opened = open_bundle(bundle)
    try:
        sound = embed_sound(find_sound([tmp_path / "new"], label="healthy"), opened)
        make_version(opened, versions, draft_add(opened, sound), max_rise=1e9)
    finally:
        opened.close()
    versions.use(1)
    grown = open_bundle(active_bundle(bundle, [versions.folder]))
    grown.close()
    assert grown.manifest.growth is not None
    assert grown.parity.used.cosine > 0.999999
    assert grown.parity.used.score < 1e-3
    place = grown.path
    embedded, judged = PARITY_FILES
    np.testing.assert_array_equal(np.load(bundle / embedded), np.load(place / embedded))
    before, after = np.load(bundle / judged), np.load(place / judged)
    assert after[1] < 0.1 * before[1]
    assert grown.manifest.parity.made_up_sha256 == opened.manifest.parity.made_up_sha256


def test_it_is_an_event_told_once(bundle, tmp_path):
    add_parity(bundle, plain=True, turned=WRONG)
    opened = open_bundle(bundle)
    opened.close()
    told = []
    for _ in range(2):  # the agent is started twice
        BundleLedger(tmp_path / "ledger.json", told.append).begin(opened)
    (event,) = told
    assert event.kind is BundleEventKind.REFUSED
    assert "judging by the float32 graph" in event.reason


def test_doctor_and_score_say_it(bundle, tmp_path, caplog):
    add_parity(bundle, plain=True, turned=WRONG)
    (tmp_path / "agent.yaml").write_text(
        "device: dev\nstate_dir: state\nmachines:\n- name: pump\n  bundle: pump\n"
        "  source: {kind: replay, paths: [sound.wav], speed: max}\n"
    )
    sound = write(tmp_path / "sound.wav", tone(3, FAULTY_HZ))
    asked = CliRunner().invoke(doctor, ["--config", str(tmp_path / "agent.yaml"), "--json"])
    found = {one["name"]: one for one in json.loads(asked.stdout)}["bundle of pump"]
    assert found["grade"] == "warn"
    assert "judging by the float32 graph" in found["text"]
    caplog.clear()
    done = CliRunner().invoke(score, [str(sound), "--bundle", str(bundle)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "judging by the float32 graph" in caplog.text


def test_a_swap_to_a_bundle_that_disagrees_is_refused(bundle, tmp_path):
    trusted = TrustedBundle(bundle, tmp_path / "state", "pump", Opening())
    trusted.open_wanted().close()
    add_parity(bundle, turned=WRONG)
    with pytest.raises(BundleError, match="gives other answers"):
        trusted.open_wanted()


def test_one_on_its_float_graph_takes_no_other_session(bundle, tmp_path, tiny_bundle):
    add_parity(bundle, plain=True, turned=WRONG)
    plain, other = open_bundle(bundle), open_bundle(tiny_bundle)
    try:
        assert plain.manifest.files[ENCODER] == other.manifest.files[ENCODER]
        assert with_session_of(plain, [other]).encoder is plain.encoder
    finally:
        plain.close()
        other.close()


def test_processors_are_told_by_what_int8_uses():
    intel = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni vmx\n"
    found = read_processor(intel + "\n" + intel.replace("Some", "Other"), "x86_64")
    assert found.model == "Some CPU"
    assert found.flags == ("avx2", "avx512f", "avx512_vnni")
    arm = "processor\t: 0\nFeatures\t: fp asimd crc32 asimddp\nCPU part\t: 0xd42\n"
    found = read_processor(arm, "aarch64")
    assert in_words(found) == "aarch64 (asimd, asimddp)"
    core = "CPU implementer\t: {}\nCPU architecture: 8\nCPU part\t: {}\n\n"
    cores = [("0x4e", "0x003"), ("0x4e", "0x003"), ("0x41", "0xd07"), ("0x48", "0xd40")]
    found = read_processor("".join(core.format(*one) for one in cores), "aarch64")
    assert found.model == "NVIDIA Denver 2 + Cortex-A57 + ARM core 0xd40 of 0x48"
    assert in_words(read_processor("", "riscv64")) == "riscv64 (flags not known)"


def test_the_manifest_is_only_read(bundle):
    add_parity(bundle)
    before = (bundle / MANIFEST).read_bytes()
    open_bundle(bundle).close()
    assert (bundle / MANIFEST).read_bytes() == before
    assert read_manifest(bundle).encoder.sample_rate == RATE
