"""The model of PyTorch's caching allocator. Real traces are in benchmarks; here are its rules, one by one."""

from zpipe.memory.allocator import MIB, Allocator
from zpipe.memory.tape import UPDATE_PHASE, Tape


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


def tape_with_a_free_block(mib: int) -> Tape:
    """Before an update."""
    tape = Tape(Allocator())
    tape.begin("backward")
    tape.take("activations", mib * MIB, "activations")
    tape.take("gradients", 20 * MIB, "gradients")
    tape.drop("activations")
    tape.begin(UPDATE_PHASE)
    return tape


def test_room_of_an_update_is_the_largest_free_block_beside_its_tensors() -> None:
    tape = tape_with_a_free_block(400)
    tape.take("update", 50 * MIB, "gradients of the update")
    assert tape.room == 8
    assert tape.reserved == 420 * MIB
    tape.take("second update", 100 * MIB, "gradients of the update")
    assert tape.room == 3.5


def test_an_update_that_barely_fits_is_expected_to_take_a_part_anew() -> None:
    tape = tape_with_a_free_block(400)
    tape.take("update", 300 * MIB, "gradients of the update")
    assert 1 < tape.room < 2
    assert tape.reserved == (420 + 0.3 * 300) * MIB
    tape = tape_with_a_free_block(400)
    tape.take("update", 440 * MIB, "gradients of the update")
    assert tape.reserved == (420 + 440) * MIB
