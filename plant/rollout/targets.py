"""Which machines of which devices a bundle goes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.core.errors import BundleError
from plant.rollout.fleet import MachineSeen
from plant.rollout.plan import Target
from plant.rollout.repository import StoredBundle


def find_targets(
    fleet: Mapping[tuple[str, str], MachineSeen],
    bundles: Sequence[StoredBundle],
    *,
    devices: Sequence[str] = (),
    machines: Sequence[str] = (),
) -> list[Target]:
    """Every machine of a bundle's name that runs another bundle and takes offers.

    Args:
        fleet: What devices said.
        bundles: One a machine.
        devices: These alone; all when empty.
        machines: Likewise.

    Raises:
        BundleError: A bundle is not signed, or two are for one machine.
    """
    by_machine: dict[str, StoredBundle] = {}
    for bundle in bundles:
        if not bundle.signed:
            raise BundleError(
                f"the bundle of '{bundle.machine}' is not signed, and devices take only signed "
                "offers",
                remedy="Give `sign` in PLANT.yaml and build again, or export with --sign.",
            )
        if by_machine.setdefault(bundle.machine, bundle).digest != bundle.digest:
            raise BundleError(f"two bundles are for the machine '{bundle.machine}'")
    return [
        Target(device=device, machine=name, digest=by_machine[name].digest, before=seen.digest)
        for (device, name), seen in sorted(fleet.items())
        if name in by_machine
        and seen.digest != by_machine[name].digest
        and seen.offer is not None
        and (not devices or device in devices)
        and (not machines or name in machines)
    ]
