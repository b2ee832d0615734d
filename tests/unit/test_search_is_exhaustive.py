"""The search looks at few combinations; its choice is that of a search which looks at all of them."""

import pytest

from tests.support.planning import composed_of, gpus
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Gpu
from zpipe.plans.given import Given
from zpipe.search.fitting import Judge
from zpipe.search.search import AS_FAST, Search
from zpipe.search.shapes import micro_batches, shapes_of
from zpipe.search.workload import workload_of

H100 = Gpu(name="NVIDIA H100 80GB HBM3", memory=81_559 * 2**20, compute_capability=(9, 0))
AUTO = ("stage=auto", "offload=auto", "batch=auto", "data.max_length=2048")
SMALL = ("model=llama3_1b", "model.config.num_hidden_layers=2", "hardware.gpu_memory_gib=20")


@pytest.mark.parametrize("cards", [1, 2])
@pytest.mark.parametrize(
    "given",
    [
        "kernels=liger",
        "kernels=none compile=auto",
        "kernels=none compile=auto activation_checkpointing=auto",
        "kernels=fused_loss compile=regional",
        "kernels=none compile=regional activation_checkpointing=auto",
        "kernels=liger stage.stage=3",
        "kernels=liger data.packing=none",
        "kernels=none precision=fp32 hardware.gpu_memory_gib=12",
        "kernels=liger optimizer=lion activation_checkpointing=auto hardware.gpu_memory_gib=12",
        "kernels=fused_loss compile=auto activation_checkpointing=auto data.max_length=8192",
        "kernels=fused_loss precision=fp16 optimizer=lamb activation_checkpointing=auto data.max_length=4096 "
        "hardware.gpu_memory_gib=12",
    ],
)
def test_choice_is_the_fastest_of_all_that_fit(given: str, cards: int) -> None:
    composed = composed_of(*AUTO, *SMALL, *given.split())
    facts = gather(composed.experiment, gpus(*[H100] * cards))
    typed, work = Given(composed.provenance), workload_of(composed.experiment, facts)
    assert work is not None
    shapes, micros = shapes_of(composed.experiment, typed), micro_batches(composed.experiment, facts, typed)
    judge = Judge(facts)
    search = Search(work, judge, shapes, micros)
    every = [search.combination(shape, micro) for shape in search.shapes for micro in micros]
    fitting = [one for one in every if judge.fits(one.shape, one.setup.micro_batch, reserves=True)]
    fastest = max(fitting, key=lambda one: one.speed)
    chosen = search.run().best[0]
    assert judge.fits(chosen.shape, chosen.setup.micro_batch, reserves=True)
    assert chosen.speed >= AS_FAST * fastest.speed, (chosen, fastest)
