"""The host does not wait for values that are not logged."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer

from zpipe.schema.engine import ThroughputTimer
from zpipe.train.trainers.ahead import AheadTrainer


@pytest.fixture
def trainer() -> AheadTrainer:
    """A Trainer with a tiny model and an engine that knows a gradient norm, and nothing else."""
    made = object.__new__(AheadTrainer)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 32}
    made.model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2))
    made.model_wrapped = SimpleNamespace(get_global_grad_norm=lambda: torch.tensor(2.5))
    return made


def test_the_norm_is_a_tensor_until_it_is_logged(trainer: AheadTrainer) -> None:
    norm: Any = trainer._get_grad_norm(None, grad_norm=trainer._clip_grad_norm(None))
    assert isinstance(norm, torch.Tensor) and norm.item() == 2.5


@pytest.mark.parametrize("name", ["_clip_grad_norm", "_get_grad_norm", "floating_point_ops"])
def test_the_installed_trainer_has_the_method_that_is_replaced(name: str) -> None:
    assert getattr(Trainer, name) is not getattr(AheadTrainer, name)


def test_operations_are_counted_as_transformers_does(trainer: AheadTrainer) -> None:
    for shape in ((2, 8), (1, 4)):
        inputs = {"input_ids": torch.zeros(shape, dtype=torch.int64)}
        assert trainer.floating_point_ops(inputs) == Trainer.floating_point_ops(trainer, inputs) > 0


def test_partitioned_parameters_are_counted_whole(trainer: AheadTrainer) -> None:
    """At stage 3 a parameter is empty between its uses, and a run that goes on may find it gathered."""
    inputs = {"input_ids": torch.zeros((2, 8), dtype=torch.int64)}
    expected = Trainer.floating_point_ops(trainer, inputs)
    for each in trainer.model.parameters():
        each.ds_numel = each.numel()
        each.data = torch.empty(0)
    assert trainer.floating_point_ops(inputs) == expected


def test_the_timer_of_deepspeed_that_waits_is_off_by_default() -> None:
    from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

    theirs = DeepSpeedThroughputTimerConfig()
    assert theirs.enabled and theirs.synchronized  # otherwise zpipe's default is needless
    assert ThroughputTimer().enabled is False
