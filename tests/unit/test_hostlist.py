"""Many nodes in few characters, as Slurm writes them."""

import pytest

from zpipe.hostlist import hosts_text, nodes_text, numbers_text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([7], "7"),
        ([1, 0, 2, 3, 7], "0-3,7"),
        ([1, 2], "1-2"),
        ([1, 3, 3, 5], "1,3,5"),
        (range(1, 1024), "1-1023"),
    ],
)
def test_numbers_are_ranges(numbers: list[int], text: str) -> None:
    assert numbers_text(numbers) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["gpu"], "gpu"),
        (["n7"], "n7"),
        (["n2", "n0", "n1", "n3", "n7", "n3"], "n[0-3,7]"),
        (["n9", "n10", "n11"], "n[9-11]"),
        (["n09", "n10", "n9"], "n[9,09-10]"),
        (["n001", "n002", "n003", "login"], "login,n[001-003]"),
        (["a1", "a2", "b1"], "a[1-2],b1"),
        (["r1n1", "r1n2", "r2n1"], "r1n[1-2],r2n1"),
        (["n1.dc2.example", "n2.dc2.example"], "n[1-2].dc2.example"),
        (["n1-ib", "n2-ib"], "n[1-2]-ib"),
        (["host", "host"], "host"),
    ],
)
def test_host_names_that_differ_in_a_number_are_one(names: list[str], text: str) -> None:
    assert hosts_text(names) == text


def test_a_thousand_nodes_are_a_few_words() -> None:
    assert nodes_text([*range(1, 1024)]) == "nodes 1-1023"
    assert nodes_text([4]) == "node 4"
    assert hosts_text(f"gpu{number:04}" for number in range(1024)) == "gpu[0000-1023]"
