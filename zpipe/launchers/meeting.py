"""How the ranks of several machines find each other: over the interface of each machine towards node 0."""

import os
from collections.abc import Mapping

from zpipe.machine.network import address_towards, interface_with
from zpipe.plans.plan import Plan

ONE_JOB = {"ZPIPE_JOB_ID": "nodes"}
"""What the markers of the ranks in the run folder are named after: each machine has a launch of its own."""


def interface(plan: Plan, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The interface of this machine towards node 0, unless the user chose one."""
    address = master_address(plan)
    if plan.launch.nodes == 1 or address is None:
        return {}
    settings = plan.experiment.launcher
    own = address_towards(address, settings.master_port)
    name = None if own is None else interface_with(own)
    chosen = {} if name is None else {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    return {key: value for key, value in chosen.items() if key not in {**environment, **settings.env}}


def master_address(plan: Plan) -> str | None:
    """Of node 0: with a hostfile, its first host, unless the user gave an address."""
    given = plan.experiment.launcher.master_addr
    return given or (plan.launch.hosts[0].name if plan.launch.hosts else None)
