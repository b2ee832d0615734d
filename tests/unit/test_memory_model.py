"""What holds for every prediction of memory."""

import itertools

import pytest

from tests.support.planning import A100, CPU, GIB, H200, gpus, plan_of
from zpipe.machine.hardware import Hardware
from zpipe.plans.memory import MemoryPrediction

MODEL = ("model=llama3_1b", "precision=bf16", "data.max_length=2048", "memory.check=warn")


def predicted(*overrides: str, hardware: Hardware | None = None) -> MemoryPrediction:
    memory = plan_of(*MODEL, *overrides, hardware=hardware or gpus(H200)).memory
    assert memory is not None
    return memory


def reserved(*overrides: str, hardware: Hardware | None = None) -> float:
    gpu = predicted(*overrides, hardware=hardware).gpu
    assert gpu is not None
    return gpu.reserved / GIB


STAGES = ("0", "1", "2", "3")
CHECKPOINTING = ("train.gradient_checkpointing=true", "train.gradient_checkpointing=false")


@pytest.mark.parametrize(
    ("stage", "checkpointing", "ranks"), list(itertools.product(STAGES, CHECKPOINTING, (1, 4)))
)
def test_every_term_has_a_formula_and_a_source_and_the_terms_add_up(
    stage: str, checkpointing: str, ranks: int
) -> None:
    memory = predicted(f"stage={stage}", checkpointing, hardware=gpus(*[H200] * ranks))
    assert memory.gpu is not None
    assert memory.host is not None
    tables = (memory.gpu.allocated, memory.gpu.cache, memory.gpu.context, memory.host.rank, memory.disk)
    for term in itertools.chain.from_iterable(table.terms for table in tables):
        assert term.formula, term.name
        assert term.source, term.name
        assert term.bytes >= 0
    assert memory.gpu.used == sum(table.total for table in tables[:3])
    assert memory.host.node == ranks * memory.host.rank.total


def test_a_larger_micro_batch_needs_more() -> None:
    sizes = [reserved("stage=1", f"batch.per_device_train_batch_size={size}") for size in (4, 8, 16)]
    assert sizes == sorted(sizes)


def test_checkpointing_and_a_fused_loss_need_less() -> None:
    batch = "batch.per_device_train_batch_size=8"
    plain = reserved("stage=1", batch)
    assert reserved("stage=1", batch, "train.gradient_checkpointing=true") < plain
    assert reserved("stage=1", batch, "kernels=liger") < plain


def test_more_ranks_need_less_of_each_gpu_from_stage_1_on() -> None:
    for stage in STAGES[1:]:
        one, eight = (reserved(f"stage={stage}", hardware=gpus(*[A100] * count)) for count in (1, 8))
        assert eight < one, stage


def test_offload_moves_states_from_the_gpu_to_the_host() -> None:
    without, offloaded = predicted("stage=2"), predicted("stage=2", "offload=cpu_optimizer")
    assert without.gpu is not None
    assert offloaded.gpu is not None
    assert without.host is not None
    assert offloaded.host is not None
    assert "optimizer states" in {term.name for term in without.gpu.allocated.terms}
    assert "optimizer states" not in {term.name for term in offloaded.gpu.allocated.terms}
    assert offloaded.host.node > without.host.node + 8 * 1_235_814_400


def test_pinned_memory_is_rounded_up_to_powers_of_two() -> None:
    pinned, pageable = (
        predicted("stage=2", "offload=cpu_optimizer", f"offload.pin_memory={pin}").host
        for pin in ("true", "false")
    )
    assert pinned is not None
    assert pageable is not None
    of = {term.name: term.bytes for term in pinned.rank.terms}
    assert of["master weights"] == 8 * GIB
    assert pinned.node > pageable.node


def test_swap_files_count_on_the_disk(tmp_path: object) -> None:
    disk = predicted("stage=3", "offload=nvme", f"offload.nvme_path={tmp_path}").disk
    names = {term.name for term in disk.terms}
    assert {"swapped optimizer states", "swapped parameters"} <= names


def test_without_a_gpu_everything_is_host_memory() -> None:
    memory = plan_of("model=tiny", "memory.check=warn", hardware=CPU).memory
    assert memory is not None
    assert memory.gpu is None
    assert memory.host is not None
    assert 0.5 * GIB < memory.host.node < 2 * GIB


def test_an_unknown_architecture_is_said_to_be_rougher() -> None:
    unknown = "model.config.model_type=olmo2"
    memory = plan_of("model=tiny", unknown, "memory.check=warn", hardware=gpus(H200)).memory
    assert memory is None or memory.is_generic


def test_many_micro_batches_need_what_a_few_do() -> None:
    few, many = (reserved("stage=2", f"batch.gradient_accumulation_steps={count}") for count in (3, 1000))
    assert few == many


def test_a_second_copy_of_the_parameters_counts() -> None:
    eight = gpus(*[H200] * 8)
    without, with_copy = (
        predicted(
            "stage=3", f"zeropp={option}", "launcher.nodes=2", "launcher.master_addr=node0", hardware=eight
        )
        for option in ("none", "hpz")
    )
    assert without.gpu is not None
    assert with_copy.gpu is not None
    (copy,) = (t for t in with_copy.gpu.allocated.terms if t.name == "second copy of the parameters")
    assert copy.bytes == pytest.approx(2 * 1_235_814_400 / 8, rel=0.01)
    assert with_copy.gpu.used > without.gpu.used


def test_inputs_of_layers_that_are_kept_on_the_host_are_counted_there() -> None:
    on_gpu, on_host = (
        predicted("stage=2", f"activation_checkpointing={option}", "batch.per_device_train_batch_size=16")
        for option in ("deepspeed", "deepspeed_cpu")
    )
    assert on_gpu.gpu is not None
    assert on_host.gpu is not None
    assert on_gpu.host is not None
    assert on_host.host is not None
    assert on_host.gpu.allocated.total < on_gpu.gpu.allocated.total
    kept = 16 * 2 * 2048 * 16 * 2048
    assert on_host.host.node == on_gpu.host.node + kept


def test_nothing_is_predicted_where_layers_are_split_or_states_are_unknown() -> None:
    for overrides in (["deepspeed.tensor_parallel.autotp_size=2", "stage=1"], ["optimizer=muon", "stage=2"]):
        plan = plan_of(*MODEL, *overrides, hardware=gpus(H200, H200))
        assert plan.memory is None
        assert plan.memory_fits == []


def test_optimizers_of_pytorch_need_more_at_stage_0_for_the_roots_of_their_second_moments() -> None:
    def peak(optimizer: str) -> int:
        short = ("data.max_length=128", "stage=0")
        prediction = predicted(*short, f"optimizer={optimizer}")
        assert prediction.gpu is not None
        return prediction.gpu.allocated.total

    assert peak("adamw_torch") - peak("adamw") > 1_235_814_400
