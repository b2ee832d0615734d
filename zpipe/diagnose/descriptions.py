"""What each ending means, in a sentence or two."""

from zpipe.runfolder.outcome import Ending

MEANING: dict[Ending, str] = {
    "environment": "This machine lacks something that the plan needs. Nothing was started.",
    "operator_build": (
        "DeepSpeed compiles its operators on this machine, and the compiler failed. Its last lines are below."
    ),
    "gpu_out_of_memory": (
        "A rank asked for more GPU memory than was left. The overrides below need less of it, the cheapest "
        "in time first."
    ),
    "host_out_of_memory": (
        "A process of the run got no more host memory: the kernel killed it, or refused it what it asked for."
    ),
    "nonfinite_loss": (
        "The loss or the gradients stopped being finite numbers and stayed so; going on would have trained "
        "nothing. precision.max_nonfinite_steps sets how long zpipe waits."
    ),
    "loss_scale_stuck": (
        "fp16 gradients overflowed although the loss scale could not fall any further, so every step was "
        "skipped. precision.max_skipped_steps_at_min_scale sets how long zpipe waits."
    ),
    "hang": (
        "The workers lived and did nothing: no event for launcher.hang_timeout_s, or a collective that timed "
        "out. Each rank that could still answer wrote its stack to its log."
    ),
    "rank_died": (
        "The process of a rank was ended by a signal that zpipe did not send: somebody killed it, or native "
        "code failed."
    ),
    "disk_full": "A file could not be written for want of room.",
    "failed": "A rank ended with a Python error. The whole traceback is in its rankN.error.json.",
    "preempted": "The batch scheduler asked the run to end.",
    "interrupted": "Somebody pressed Ctrl-C.",
    "terminated": "Somebody asked zpipe to end, or killed it.",
}
