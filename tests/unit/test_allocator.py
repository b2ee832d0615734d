"""The model of PyTorch's caching allocator. Real traces are in benchmarks; here are its rules, one by one."""

from zpipe.memory.allocator import MIB, Allocator
from zpipe.memory.tape import Tape


def allocator(**sizes: int) -> Allocator:
    made = Allocator()
    for name, size in sizes.items():
        made.allocate(name, size * MIB)
    return made


def test_memory_is_mapped_in_pages_of_20_mib() -> None:
    assert allocator(a=1 * 21).reserved == 40 * MIB


def test_small_tensors_are_in_pages_of_2_mib_of_their_own() -> None:
    made = Allocator()
    made.allocate("small", 600)
    made.allocate("large", 30 * MIB)
    assert made.reserved == (2 + 40) * MIB


def test_freed_memory_is_used_again() -> None:
    made = allocator(a=40, b=40)
    made.free("a")
    made.allocate("c", 30 * MIB)
    made.allocate("d", 10 * MIB)
    assert made.reserved == 80 * MIB


def test_neighbours_that_are_free_become_one_block() -> None:
    made = allocator(a=40, b=40, c=40)
    made.free("a")
    made.free("b")
    made.allocate("d", 80 * MIB)
    assert made.reserved == 120 * MIB


def test_a_hole_that_is_too_small_is_not_used() -> None:
    made = allocator(a=40, b=40)
    made.free("a")
    made.allocate("c", 60 * MIB)
    assert made.reserved == 140 * MIB


def test_a_free_block_at_the_end_grows() -> None:
    made = allocator(a=40, b=40)
    made.free("b")
    made.allocate("c", 60 * MIB)
    assert made.reserved == 100 * MIB


def test_streams_do_not_share_freed_memory() -> None:
    made = allocator(a=40)
    made.free("a")
    made.allocate("b", 40 * MIB, stream=1)
    assert made.reserved == 80 * MIB


def test_empty_cache_returns_whole_pages_and_what_is_mapped_again_counts_again() -> None:
    made = allocator(a=40, b=50, c=40)
    made.free("a")
    made.empty_cache()
    assert made.reserved == 100 * MIB
    made.allocate("d", 40 * MIB)
    assert made.reserved == 140 * MIB
    made.free("c")
    made.empty_cache()
    assert made.reserved == 100 * MIB


def test_a_gap_and_the_free_blocks_around_it_are_used_together() -> None:
    made = allocator(a=50, b=30, c=40)
    made.free("a")
    made.empty_cache()  # 40 MiB of it are unmapped, 10 stay
    assert made.reserved == 80 * MIB
    made.allocate("d", 50 * MIB)
    assert made.reserved == 120 * MIB


def test_a_tape_keeps_what_is_alive_at_the_peak() -> None:
    tape = Tape()
    tape.begin("first")
    tape.take("a", 100, "parameters")
    tape.pulse(50, "work")
    tape.begin("second")
    tape.take("b", 30, "parameters")
    tape.drop("a")
    assert (tape.peak.bytes, tape.peak.phase) == (150, "first")
    assert tape.peak.terms == {"parameters": 100, "work": 50}
