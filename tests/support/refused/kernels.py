"""Liger's kernels, regional compilation and attention."""

from tests.support.planning import CPU
from tests.support.refused.rows import OLD_GPU, ONE_A100, ONE_GPU, Row

LIGER = "train.use_liger_kernel=true"
ROWS: list[Row] = [
    (["kernels=liger"], "kernels.liger", CPU),
    ([LIGER], "train.use_liger_kernel", CPU),
    (["kernels=liger", "model.config.model_type=bloom"], "kernels.liger", ONE_GPU),
    (["kernels=liger", "train.use_liger_kernel=false"], "train.use_liger_kernel", ONE_GPU),
    (["kernels=none", LIGER], "train.use_liger_kernel", ONE_GPU),
    (["kernels=auto", LIGER], "train.use_liger_kernel", CPU),
    ([LIGER, "train.torch_compile=true"], "train.torch_compile", ONE_GPU),
    ([LIGER, "train.torch_compile_mode=default"], "train.torch_compile", ONE_GPU),
    (["kernels=liger", "compile=deepcompile"], "train.torch_compile", ONE_GPU),
    (["train.liger_kernel_config.rope=true"], "train.liger_kernel_config", CPU),
    (["train.liger_kernel_config.rope=true"], "train.liger_kernel_config", ONE_GPU),
    (
        ["kernels=liger", "+train.liger_kernel_config.rms_nrom=true"],
        "train.liger_kernel_config.rms_nrom",
        ONE_GPU,
    ),
    (
        ["kernels=liger", "+train.liger_kernel_config.cross_entropy=true"],
        "train.liger_kernel_config.cross_entropy",
        ONE_GPU,
    ),
    (["kernels=liger", "compile=regional"], "train.torch_compile", ONE_GPU),
    (
        ["kernels=fused_loss", "+train.liger_kernel_config.rope=true"],
        "train.liger_kernel_config.rope",
        ONE_GPU,
    ),
    (
        ["kernels=fused_loss", "+train.liger_kernel_config.fused_linear_cross_entropy=false"],
        "train.liger_kernel_config.fused_linear_cross_entropy",
        ONE_GPU,
    ),
    (["compile.regional=true"], "compile.regional", CPU),
    (["compile=deepcompile", "compile.regional=true"], "compile.regional", ONE_GPU),
    (["model.attn_implementation=flex_attention"], "model.attn_implementation", CPU),
    (["model.attn_implementation=flash_attention_2"], "model.attn_implementation", CPU),
    (["model.attn_implementation=flash_attention_2"], "model.attn_implementation", OLD_GPU),
    (["model.attn_implementation=flash_attention_4"], "model.attn_implementation", ONE_A100),
    (
        ["model.attn_implementation=flash_attention_2", "precision=fp32"],
        "model.attn_implementation",
        ONE_GPU,
    ),
    (
        ["model.attn_implementation=kernels-community/flash-attn2", "precision=fp32"],
        "model.attn_implementation",
        ONE_GPU,
    ),
    (["model.attn_implementation=flash_attn"], "model.attn_implementation", ONE_GPU),
    (["model.attn_implementation=anybody/flash-attn2"], "model.attn_implementation", ONE_GPU),
    (["kernels.sdpa_backend=cudnn"], "kernels.sdpa_backend", CPU),
    (["kernels.sdpa_backend=cudnn", "precision=tf32"], "kernels.sdpa_backend", ONE_GPU),
    (["kernels.sdpa_backend=flash", "stage=1"], "kernels.sdpa_backend", OLD_GPU),
    (["kernels.sdpa_backend=flash", "data.packing=none"], "kernels.sdpa_backend", ONE_GPU),
    (["kernels.sdpa_backend=efficient"], "kernels.sdpa_backend", ONE_GPU),
    (
        ["kernels.sdpa_backend=math", "model.attn_implementation=eager"],
        "kernels.sdpa_backend",
        ONE_GPU,
    ),
    (["kernels.sdpa_backend=math", "model.config.model_type=bloom"], "kernels.sdpa_backend", ONE_GPU),
    (["precision=fp8"], "precision", ONE_GPU),
    (["precision.dtype=fp8"], "precision.dtype", ONE_GPU),
]
