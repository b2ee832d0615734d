"""The meaning of each ending, in a sentence or two."""

from zpipe.runfolder.outcome import Ending

MEANING: dict[Ending, str] = {
    "environment": "The plan needs something that this machine does not have. Nothing was started.",
    "operator_build": (
        "DeepSpeed compiles its operators on this machine, and the compiler failed. Its last lines are below."
    ),
    "gpu_out_of_memory": (
        "A rank requested more GPU memory than was free. The overrides below need less of it; the ones that "
        "cost the least time come first."
    ),
    "host_out_of_memory": (
        "A process of the run ran out of host memory: the kernel killed it, or an allocation failed."
    ),
    "nonfinite_loss": (
        "The loss or the gradients became non-finite and stayed so; further steps would not have trained "
        "anything. precision.max_nonfinite_steps sets how many such steps zpipe accepts."
    ),
    "loss_scale_stuck": (
        "fp16 gradients overflowed even at the minimum loss scale, so every step was skipped. "
        "precision.max_skipped_steps_at_min_scale sets how many such steps zpipe accepts."
    ),
    "nothing_learned": (
        "Training went through, but every step was skipped because its gradients were not finite. The "
        "parameters are those before the training, so no model is saved. Under fp16 the loss scale falls "
        "with each skipped step: a short run may end before it fits."
    ),
    "hang": (
        "The workers were running but made no progress: they sent no event for launcher.hang_timeout_s, or a "
        "collective timed out. Each rank that still responded wrote its stack to its log."
    ),
    "rank_died": (
        "The process of a rank, or of the launcher that watches the ranks, was killed by a signal that zpipe "
        "did not send: it was killed from outside, or native code failed."
    ),
    "disk_full": "A file could not be written because the disk was full.",
    "failed": (
        "A rank ended with a Python error, whose whole traceback is in its rankN.error.json, or "
        "something else ended the run: see the reason."
    ),
    "preempted": "The batch scheduler asked the run to stop.",
    "interrupted": "The run was stopped with Ctrl-C.",
    "terminated": "zpipe was asked to stop by a signal, or was killed.",
}
