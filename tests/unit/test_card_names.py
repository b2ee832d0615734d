"""A card as people write it is answered with the options of its letters and numbers."""

import pytest

from tests.support.planning import problems_of
from zpipe.machine.card_names import counted, nearest_cards
from zpipe.machine.cards import machine_kinds
from zpipe.problems import Fix

OF_8 = "hardware.gpus_per_node=8"
A100 = ["a100_80gb", "a100_40gb"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("A100", A100),
        ("A100-80G", ["a100_80gb"]),
        ("a100 40GB", ["a100_40gb"]),
        ("NVIDIA A100-SXM4-80GB", ["a100_80gb"]),
        ("A100 PCIe 80GB", ["a100_pcie_80gb"]),
        ("h100", ["h100_80gb"]),
        ("H100-SXM5", ["h100_80gb"]),
        ("a100_sxm", A100),
        ("v100", ["v100_32gb"]),
        ("h100 nvl", ["h100_nvl"]),
        ("RTX 4090", ["rtx_4090"]),
        ("rtx4090", ["rtx_4090"]),
        ("4090", ["rtx_4090"]),
        ("NVIDIA GeForce RTX 3090", ["rtx_3090"]),
        ("RTX 6000", ["rtx_6000_ada"]),
        ("RTX A6000", ["a6000"]),
        ("A10", ["a10"]),
        ("L40", ["l40s"]),
        ("V100-SXM2-32GB", ["v100_32gb"]),
        ("hree", ["here"]),
        ("X1", []),
    ],
)
def test_nearest_cards_have_the_letters_and_numbers_of_the_name(name: str, options: list[str]) -> None:
    found = nearest_cards(name, ["here", *machine_kinds()])
    assert found[: len(options)] == options
    assert options or not found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8xA100", (8, "A100")),
        ("8 x RTX 4090", (8, "RTX 4090")),
        ("h100x8", (8, "h100")),
        ("rtx4090*2", (2, "rtx4090")),
        ("2xL40S", (2, "L40S")),
        ("A100-80G", (None, "A100-80G")),
        ("rtx4090", (None, "rtx4090")),
        ("rtx_4090", (None, "rtx_4090")),
    ],
)
def test_a_number_of_gpus_is_read_before_and_behind_the_name(
    text: str, expected: tuple[int | None, str]
) -> None:
    assert counted(text) == expected


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ("8xA100", f"hardware=a100_80gb {OF_8}"),
        ("8xh100", f"hardware=h100_80gb {OF_8}"),
        ("h100x8", f"hardware=h100_80gb {OF_8}"),
        ("a100", "hardware=a100_80gb"),
        ("A100-80G", "hardware=a100_80gb"),
        ("2xL40S", "hardware=l40s hardware.gpus_per_node=2"),
        ("RTX 4090", "hardware=rtx_4090"),
        ("2000xH100", "hardware=h100_80gb"),
    ],
)
def test_each_proposed_description_is_accepted(given: str, first: str) -> None:
    (problem,) = problems_of(f"hardware={given}")
    assert isinstance(problem.fix, Fix)
    assert problem.fix.alternatives[0] == first
    for fix in problem.fix.alternatives:
        assert problems_of(*fix.split(), "precision=fp32") == []


@pytest.mark.parametrize("given", ["8xA100", "A100-80G", "80xL40", "many"])
def test_each_proposed_request_to_a_queue_is_accepted(given: str) -> None:
    (problem,) = problems_of("launcher=slurm", f"launcher.slurm.gpus='{given}'")
    assert isinstance(problem.fix, Fix)
    for fix in problem.fix.alternatives:
        assert problems_of("launcher=slurm", fix) == []
