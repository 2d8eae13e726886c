import numpy as np
import pytest

from trainer.synth.families import FAMILIES, render_family, write_family


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_machine_of_each_family_is_its_own_and_its_faults_are_heard(kind):
    def made(seed: int, fault: str = "", severity: float = 1.0) -> np.ndarray:
        rng = np.random.default_rng(7)
        return render_family(kind, seed, rng, seconds=2.0, fault=fault, severity=severity)

    healthy = made(1)
    assert healthy.dtype == np.float32
    assert healthy.shape == (32000,)
    assert 0.001 < float(np.abs(healthy).max()) < 1.0
    np.testing.assert_array_equal(healthy, made(1))
    assert not np.array_equal(healthy, made(2))
    for fault in FAMILIES[kind].faults:
        broken = made(1, fault)
        assert np.isfinite(broken).all()
        assert not np.array_equal(healthy, broken), fault


def test_a_family_is_written_in_the_plain_layout_with_its_faults_in_turn(tmp_path):
    root = write_family(tmp_path, "valve", 3, train=2, test_normal=1, test_anomaly=5, seconds=1.0)
    assert len(list((root / "normal").iterdir())) == 2
    assert len(list((root / "test" / "normal").iterdir())) == 1
    names = sorted(p.name.rsplit("_", 1)[0] for p in (root / "test" / "anomaly").iterdir())
    assert names == sorted(["weak", "bounce", "missing", "leak", "weak"])
